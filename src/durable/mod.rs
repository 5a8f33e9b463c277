//! Workflow context: steps that replay, messages, streams, cancellation. Knows no SQL.
//!
//! A workflow is a function over a [`Workflow`]. Each durable operation takes the next number in program order; an
//! operation that is recorded under that number gives its recorded outcome again and does not run. What is not
//! recorded runs, and is recorded before its caller goes on.

mod control;
mod family;
mod inbox;
mod mail;
mod slots;
mod workflow;

pub use control::{Control, Stop};
pub use family::Family;
pub use inbox::Inbox;
pub use mail::MailRoom;
pub use slots::{Seat, Slot, Slots, Usage};
pub use workflow::{Appender, Begun, DurableError, Step, Workflow};
