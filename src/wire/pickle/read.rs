//! The stack machine, restricted to plain data.
//!
//! Values live in one arena and refer to each other by index. So a value that the pickle shares a million
//! times costs one entry, a list that contains itself is no problem here, and neither building nor dropping
//! recurses; [`build`](super::build) then counts what it copies out.

use std::borrow::Cow;
use std::collections::HashMap;

use super::error::PickleError;
use super::{opcode, text};

/// Most values that one pickle may build, here and again when shared values are copied out into JSON.
pub const MAX_NODES: usize = 4 << 20;

/// Deepest nesting. Somewhat less than the JSON parser's 128, so that what came in as a pickle can go out again as
/// JSON, in an envelope.
pub const MAX_DEPTH: usize = 120;

/// Longest integer in bytes; some 1200 decimal digits.
const MAX_INTEGER_BYTES: usize = 512;

/// What to do with opcodes that make Python objects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Objects {
    /// Fail: data must be plain.
    Refuse,
    /// Note the class's name and the arguments, for telling what an exception says.
    Describe,
}

/// An index into the arena.
pub type Index = u32;

/// One value; children by index.
#[derive(Debug)]
pub enum Node<'p> {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    /// Decimal digits of an integer beyond 64 bits.
    Big(String),
    Float(f64),
    Text(Cow<'p, str>),
    Bytes(&'p [u8]),
    List(Vec<Index>),
    Tuple(Vec<Index>),
    Set(Vec<Index>),
    Dict(Vec<(Index, Index)>),
    /// A class, by its name without the module. Only when objects are described.
    Class(Cow<'p, str>),
    /// A class called with arguments. Only when objects are described.
    Call(Index, Index),
}

/// A pickle that was read.
pub struct Pickle<'p> {
    pub nodes: Vec<Node<'p>>,
    pub root: Index,
}

/// Runs the pickle up to its STOP. What follows that is ignored, as Python does.
pub fn read(bytes: &[u8], objects: Objects) -> Result<Pickle<'_>, PickleError> {
    let mut machine = Machine {
        bytes,
        at: 0,
        opcode: ("STOP", 0),
        objects,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        if let Some(root) = machine.step()? {
            return Ok(Pickle { nodes: machine.nodes, root });
        }
    }
}

struct Machine<'p> {
    bytes: &'p [u8],
    at: usize,
    /// The current opcode and its offset, for errors.
    opcode: (&'static str, usize),
    objects: Objects,
    nodes: Vec<Node<'p>>,
    stack: Vec<Index>,
    /// Stack heights at the open MARKs; nothing below the last one may be popped.
    marks: Vec<usize>,
    memo: HashMap<u32, Index>,
}

impl<'p> Machine<'p> {
    /// Executes one opcode; the result's index at STOP.
    fn step(&mut self) -> Result<Option<Index>, PickleError> {
        let offset = self.at;
        let [byte] = self.take_array()?;
        let name = opcode::name(byte).ok_or(PickleError::Unknown { byte, offset })?;
        self.opcode = (name, offset);
        match byte {
            0x80 => self.protocol()?,
            0x95 => drop(self.take_array::<8>()?),
            b'.' => return self.pop().map(Some),

            b'N' => self.push(Node::Null)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'J' => self.take_array().map(i32::from_le_bytes).and_then(|int| self.push(Node::Int(int.into())))?,
            b'K' => self.take_array().map(u8::from_le_bytes).and_then(|int| self.push(Node::Int(int.into())))?,
            b'M' => self.take_array().map(u16::from_le_bytes).and_then(|int| self.push(Node::Int(int.into())))?,
            0x8a => self.take_length::<1>().and_then(|length| self.long(length))?,
            0x8b => self.take_length::<4>().and_then(|length| self.long(length))?,
            b'I' => self.int_line()?,
            b'L' => self.long_line()?,
            b'G' => self.take_array().map(f64::from_be_bytes).and_then(|float| self.push(Node::Float(float)))?,
            b'F' => self.float_line()?,

            b'X' => self.take_length::<4>().and_then(|length| self.utf8(length))?,
            0x8c => self.take_length::<1>().and_then(|length| self.utf8(length))?,
            0x8d => self.take_length::<8>().and_then(|length| self.utf8(length))?,
            b'V' => self.unicode_line()?,
            b'U' => self.take_length::<1>().and_then(|length| self.ascii(length))?,
            b'T' => self.take_length::<4>().and_then(|length| self.ascii(length))?,
            b'S' => self.string_line()?,
            b'C' => self.take_length::<1>().and_then(|length| self.raw(length))?,
            b'B' => self.take_length::<4>().and_then(|length| self.raw(length))?,
            0x8e | 0x96 => self.take_length::<8>().and_then(|length| self.raw(length))?,

            b'(' => self.mark()?,
            b']' => self.push(Node::List(Vec::new()))?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b')' => self.push(Node::Tuple(Vec::new()))?,
            0x8f => self.push(Node::Set(Vec::new()))?,
            b'l' => self.pop_mark().and_then(|items| self.push(Node::List(items)))?,
            b't' => self.pop_mark().and_then(|items| self.push(Node::Tuple(items)))?,
            0x91 => self.pop_mark().and_then(|items| self.push(Node::Set(items)))?,
            b'd' => {
                self.pop_mark().and_then(|items| self.pairs(items)).and_then(|pairs| self.push(Node::Dict(pairs)))?
            }
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b'a' => self.pop().and_then(|item| self.extend_list(&[item]))?,
            b'e' => self.pop_mark().and_then(|items| self.extend_list(&items))?,
            0x90 => self.pop_mark().and_then(|items| self.extend_set(&items))?,
            b's' => self.pop_many(2).and_then(|items| self.extend_dict(items))?,
            b'u' => self.pop_mark().and_then(|items| self.extend_dict(items))?,

            b'0' if self.stack.len() == self.floor() && !self.marks.is_empty() => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => self.top().map(|top| self.stack.push(top))?,
            b'p' => self.memo_line().and_then(|slot| self.remember(slot))?,
            b'q' => self.take_array().map(u8::from_le_bytes).and_then(|slot| self.remember(slot.into()))?,
            b'r' => self.take_array().map(u32::from_le_bytes).and_then(|slot| self.remember(slot))?,
            // Slots are numbered in order here; Python uses the memo's size too.
            0x94 => self.remember(u32::try_from(self.memo.len()).unwrap_or(u32::MAX))?,
            b'g' => self.memo_line().and_then(|slot| self.recall(slot))?,
            b'h' => self.take_array().map(u8::from_le_bytes).and_then(|slot| self.recall(slot.into()))?,
            b'j' => self.take_array().map(u32::from_le_bytes).and_then(|slot| self.recall(slot))?,

            // GLOBAL, STACK_GLOBAL, REDUCE, NEWOBJ, BUILD: noted, never executed.
            b'c' if self.objects == Objects::Describe => self.describe_global()?,
            0x93 if self.objects == Objects::Describe => self.describe_stack_global()?,
            b'R' | 0x81 if self.objects == Objects::Describe => self.describe_call()?,
            b'b' if self.objects == Objects::Describe => drop(self.pop()?),
            _ => return Err(PickleError::Refused { opcode: name, offset }),
        }
        Ok(None)
    }

    fn protocol(&mut self) -> Result<(), PickleError> {
        let [version] = self.take_array()?;
        if version > 5 { Err(self.malformed("a protocol of at most 5")) } else { Ok(()) }
    }

    // Operands.

    fn take(&mut self, length: usize) -> Result<&'p [u8], PickleError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(PickleError::Truncated { opcode: self.opcode.0, offset: self.bytes.len() })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A little-endian length of `N` bytes; one beyond the address space is beyond the pickle too.
    fn take_length<const N: usize>(&mut self) -> Result<usize, PickleError> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.take_array::<N>()?);
        Ok(usize::try_from(u64::from_le_bytes(wide)).unwrap_or(usize::MAX))
    }

    fn take_line(&mut self) -> Result<&'p [u8], PickleError> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n');
        let length = length.ok_or(PickleError::Truncated { opcode: self.opcode.0, offset: self.bytes.len() })?;
        let line = self.take(length)?;
        self.at += 1;
        Ok(line)
    }

    fn memo_line(&mut self) -> Result<u32, PickleError> {
        let line = self.take_line()?;
        let slot = std::str::from_utf8(line).ok().and_then(|digits| digits.parse().ok());
        slot.ok_or_else(|| self.malformed("a decimal memo slot"))
    }

    // Scalars.

    fn long(&mut self, length: usize) -> Result<(), PickleError> {
        if length > MAX_INTEGER_BYTES {
            return Err(PickleError::Limit { what: "bytes in an integer", limit: MAX_INTEGER_BYTES });
        }
        let node = text::integer_of_bytes(self.take(length)?);
        self.push(node)
    }

    fn int_line(&mut self) -> Result<(), PickleError> {
        match self.take_line()? {
            // How protocols 0 and 1 write booleans.
            b"00" => self.push(Node::Bool(false)),
            b"01" => self.push(Node::Bool(true)),
            digits => self.decimal(digits),
        }
    }

    fn long_line(&mut self) -> Result<(), PickleError> {
        let line = self.take_line()?;
        self.decimal(line.strip_suffix(b"L").unwrap_or(line))
    }

    fn decimal(&mut self, digits: &[u8]) -> Result<(), PickleError> {
        let node = text::integer_of_digits(digits, MAX_INTEGER_BYTES * 2);
        let node = node.ok_or_else(|| self.malformed("a decimal integer"))?;
        self.push(node)
    }

    fn float_line(&mut self) -> Result<(), PickleError> {
        let line = self.take_line()?;
        let float = std::str::from_utf8(line).ok().and_then(|line| line.parse().ok());
        let float = float.ok_or_else(|| self.malformed("a decimal number"))?;
        self.push(Node::Float(float))
    }

    fn utf8(&mut self, length: usize) -> Result<(), PickleError> {
        let bytes = self.take(length)?;
        let text = text::of_utf8(bytes).ok_or_else(|| self.malformed("UTF-8"))?;
        self.push(Node::Text(text))
    }

    fn unicode_line(&mut self) -> Result<(), PickleError> {
        let line = self.take_line()?;
        let text = text::of_raw_unicode_escape(line).ok_or_else(|| self.malformed("complete \\u escapes"))?;
        self.push(Node::Text(text.into()))
    }

    /// A Python 2 string; Python 3 reads it as ASCII.
    fn ascii(&mut self, length: usize) -> Result<(), PickleError> {
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii());
        let text = text.ok_or_else(|| self.malformed("ASCII"))?;
        self.push(Node::Text(text.into()))
    }

    fn string_line(&mut self) -> Result<(), PickleError> {
        let line = self.take_line()?;
        let text = text::of_quoted(line).ok_or_else(|| self.malformed("a quoted ASCII string"))?;
        self.push(Node::Text(text.into()))
    }

    fn raw(&mut self, length: usize) -> Result<(), PickleError> {
        let bytes = self.take(length)?;
        self.push(Node::Bytes(bytes))
    }

    // The stack.

    fn malformed(&self, expected: &'static str) -> PickleError {
        PickleError::Malformed { opcode: self.opcode.0, offset: self.opcode.1, expected }
    }

    fn push(&mut self, node: Node<'p>) -> Result<(), PickleError> {
        if self.nodes.len() >= MAX_NODES {
            return Err(PickleError::Limit { what: "values", limit: MAX_NODES });
        }
        self.stack.push(self.nodes.len() as Index);
        self.nodes.push(node);
        Ok(())
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Index, PickleError> {
        let visible = &self.stack[self.floor()..];
        visible.last().copied().ok_or_else(|| self.malformed("a value on the stack"))
    }

    fn pop(&mut self) -> Result<Index, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Index>, PickleError> {
        let start = self.stack.len().checked_sub(count).filter(|start| *start >= self.floor());
        let start = start.ok_or_else(|| self.malformed("more values on the stack"))?;
        Ok(self.stack.split_off(start))
    }

    fn mark(&mut self) -> Result<(), PickleError> {
        // A mark stays open while the container's items are read, so there are no more than levels.
        if self.marks.len() > MAX_DEPTH {
            return Err(PickleError::Limit { what: "levels", limit: MAX_DEPTH });
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn pop_mark(&mut self) -> Result<Vec<Index>, PickleError> {
        let start = self.marks.pop().ok_or_else(|| self.malformed("an open MARK"))?;
        // No opcode pops below an open mark, so the height still lies within the stack.
        Ok(self.stack.split_off(start.min(self.stack.len())))
    }

    fn remember(&mut self, slot: u32) -> Result<(), PickleError> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), PickleError> {
        let index = self.memo.get(&slot).copied().ok_or_else(|| self.malformed("a memo slot that was set"))?;
        self.stack.push(index);
        Ok(())
    }

    // Containers.

    fn tuple(&mut self, count: usize) -> Result<(), PickleError> {
        let items = self.pop_many(count)?;
        self.push(Node::Tuple(items))
    }

    fn pairs(&self, items: Vec<Index>) -> Result<Vec<(Index, Index)>, PickleError> {
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(self.malformed("a value for every key"));
        };
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    fn extend_list(&mut self, items: &[Index]) -> Result<(), PickleError> {
        let target = self.top()?;
        match &mut self.nodes[target as usize] {
            Node::List(list) => list.extend_from_slice(items),
            _ => return Err(self.malformed("a list on the stack")),
        }
        Ok(())
    }

    fn extend_set(&mut self, items: &[Index]) -> Result<(), PickleError> {
        let target = self.top()?;
        match &mut self.nodes[target as usize] {
            Node::Set(set) => set.extend_from_slice(items),
            _ => return Err(self.malformed("a set on the stack")),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: Vec<Index>) -> Result<(), PickleError> {
        let pairs = self.pairs(items)?;
        let target = self.top()?;
        match &mut self.nodes[target as usize] {
            Node::Dict(dict) => dict.extend_from_slice(&pairs),
            // Attributes of an object that is only described.
            Node::Call(..) => {}
            _ => return Err(self.malformed("a dict on the stack")),
        }
        Ok(())
    }

    // Objects, described.

    fn describe_global(&mut self) -> Result<(), PickleError> {
        self.take_line()?;
        let name = self.take_line()?;
        self.push(Node::Class(String::from_utf8_lossy(name)))
    }

    fn describe_stack_global(&mut self) -> Result<(), PickleError> {
        let parts = self.pop_many(2)?;
        let name = match parts.last().map(|name| &self.nodes[*name as usize]) {
            Some(Node::Text(name)) => name.clone(),
            _ => return Err(self.malformed("a class's name on the stack")),
        };
        self.push(Node::Class(name))
    }

    fn describe_call(&mut self) -> Result<(), PickleError> {
        match self.pop_many(2)?[..] {
            [class, arguments] => self.push(Node::Call(class, arguments)),
            _ => Err(self.malformed("a class and arguments on the stack")),
        }
    }
}
