//! The smallest parts of a query: names, words, numbers, quoted texts. Each reader takes a position, and gives what it
//! read and where that ends, or nothing.

use super::tree::Regexp;

/// A query's text by characters.
pub(super) struct Source(Vec<char>);

/// What was read, and where it ends.
pub(super) type Read<T> = Option<(T, usize)>;

impl Source {
    pub fn new(text: &str) -> Source {
        Source(text.chars().collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn char(&self, at: usize) -> Option<char> {
        self.0.get(at).copied()
    }

    /// From here to the next space, for messages.
    pub fn word(&self, at: usize) -> String {
        self.0.iter().skip(at).take(20).take_while(|character| !character.is_whitespace()).collect()
    }

    /// The end of these characters, if they stand here.
    pub fn literal(&self, at: usize, text: &str) -> Option<usize> {
        let mut end = at;
        for character in text.chars() {
            self.char(end).filter(|here| *here == character)?;
            end += 1;
        }
        Some(end)
    }

    /// The end of spaces, if there are any. Line ends are none.
    pub fn spaces(&self, at: usize) -> usize {
        self.run(at, is_space)
    }

    /// The end of at least one space.
    pub fn some_spaces(&self, at: usize) -> Option<usize> {
        Some(self.spaces(at)).filter(|end| *end > at)
    }

    pub fn ends(&self, at: usize) -> bool {
        at >= self.len()
    }

    fn run(&self, at: usize, of: impl Fn(char) -> bool) -> usize {
        let length = self.0.iter().skip(at).take_while(|character| of(**character)).count();
        at + length
    }

    fn text(&self, from: usize, to: usize) -> String {
        self.0[from..to].iter().collect()
    }

    fn some(&self, at: usize, of: impl Fn(char) -> bool) -> Read<String> {
        let end = self.run(at, of);
        (end > at).then(|| (self.text(at, end), end))
    }

    /// A field's name and the colon behind it.
    pub fn field(&self, at: usize) -> Read<String> {
        let (name, end) = self.field_name(at)?;
        let end = self.literal(self.spaces(end), ":")?;
        Some((name, self.spaces(end)))
    }

    pub fn field_name(&self, at: usize) -> Read<String> {
        self.some(at, is_field)
    }

    /// A word that ends at a space or a special character. Escapes keep their backslash.
    pub fn word_of_term(&self, at: usize) -> Read<String> {
        self.escaped(at, |character| !" \t\r\n\u{c}{}()|/\\^~[]&!?=<>".contains(character))
    }

    /// A text that may hold spaces.
    pub fn loose_text(&self, at: usize) -> Read<String> {
        self.escaped(at, |character| !":*?{}()\"/^~[]".contains(character))
    }

    fn escaped(&self, at: usize, of: impl Fn(char) -> bool) -> Read<String> {
        let mut end = at;
        while let Some(here) = self.char(end) {
            if here == '\\' && self.char(end + 1).is_some_and(is_reserved) {
                end += 2;
            } else if of(here) {
                end += 1;
            } else {
                break;
            }
        }
        (end > at).then(|| (self.text(at, end), end))
    }

    /// A pattern with at least one `*` or `?`.
    pub fn wildcard(&self, at: usize) -> Read<String> {
        let special = |character: char| matches!(character, '*' | '?');
        let mut end = at;
        loop {
            let stars = self.run(end, |character| !special(character) && !matches!(character, '(' | ' '));
            let after = self.run(stars, special);
            if after == stars {
                break;
            }
            end = self.run(after, |character| !special(character) && !matches!(character, ')' | ' '));
        }
        (end > at).then(|| (self.text(at, end), end))
    }

    /// A text in double or single quotes.
    pub fn quoted(&self, at: usize) -> Read<String> {
        let quote = self.char(at).filter(|here| matches!(here, '"' | '\''))?;
        let (mut text, mut end) = (String::new(), at + 1);
        loop {
            let here = self.char(end)?;
            end += 1;
            if here == quote {
                return Some((text, end));
            }
            if here != '\\' {
                text.push(here);
                continue;
            }
            text.push(match self.char(end)? {
                plain @ ('\'' | '"' | '\\') => plain,
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                _ => return None,
            });
            end += 1;
        }
    }

    /// A regular expression between slashes, with flags.
    pub fn regexp(&self, at: usize) -> Read<Regexp> {
        let start = self.literal(at, "/")?;
        let mut end = start;
        loop {
            match self.char(end)? {
                '/' => break,
                '\\' => {
                    self.char(end + 1).filter(|escaped| is_reserved(*escaped))?;
                    end += 2;
                }
                _ => end += 1,
            }
        }
        let flags = self.run(end + 1, |character| "gimsuy".contains(character));
        Some((Regexp { pattern: self.text(start, end), flags: self.text(end + 1, flags) }, flags))
    }

    /// A whole number without a sign, or one with a fraction, that ends where a number may.
    pub fn number(&self, at: usize) -> Read<f64> {
        self.fraction(at).or_else(|| self.integer(at))
    }

    fn fraction(&self, at: usize) -> Read<f64> {
        let point = self.literal(self.run(at, |character| character.is_ascii_digit()), ".")?;
        let end = self.run(point, |character| character.is_ascii_digit());
        (end > point && self.ends_number(end)).then_some(())?;
        Some((self.text(at, end).parse().ok()?, end))
    }

    fn integer(&self, at: usize) -> Read<f64> {
        let end = match self.char(at)? {
            '0' => at + 1,
            '1'..='9' => self.run(at, |character| character.is_ascii_digit()),
            _ => return None,
        };
        self.ends_number(end).then_some(())?;
        Some((self.text(at, end).parse().ok()?, end))
    }

    fn ends_number(&self, at: usize) -> bool {
        self.char(at).is_none_or(|here| matches!(here, ' ' | ']' | '}' | ')'))
    }

    pub fn flag(&self, at: usize) -> Read<bool> {
        let (flag, end) = match self.literal(at, "true") {
            Some(end) => (true, end),
            None => (false, self.literal(at, "false")?),
        };
        let ended = self.char(end).is_none_or(|here| is_space(here) || matches!(here, ')' | ']'));
        ended.then_some((flag, end))
    }

    /// A variable's name: `$name` without its sign, `@name` with it. An error is a name that can't be.
    pub fn variable(&self, at: usize) -> Read<Result<String, String>> {
        let plain = |character: char| character == '_' || character.is_ascii_alphanumeric();
        if let Some(start) = self.literal(at, "$") {
            if let Some((name, end)) = self.some(start, plain) {
                return Some((Ok(name), end));
            }
            let sign = self.literal(self.run(start, |character| character == '\\'), "@")?;
            let (_, end) = self.some(sign, plain)?;
            return Some((Err(self.text(at, end)), end));
        }
        let start = self.literal(at, "@")?;
        let (name, end) = self.some(start, |character| plain(character) || character == '.')?;
        let name = format!("@{name}");
        Some((if name.contains("..") { Err(name) } else { Ok(name) }, end))
    }
}

/// What separates the parts of a query.
fn is_space(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | ' ')
}

fn is_field(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_-.?*".contains(character)
}

/// What a backslash may stand before.
fn is_reserved(character: char) -> bool {
    is_field(character) || "+(){}[]^\"'\\&|/~ !@".contains(character)
}
