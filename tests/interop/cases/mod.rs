//! The scenarios. Each has a database, clients and workers of its own, see [`stage`].

mod control;
mod generations;
mod matrix;
mod neighbours;
mod operate;
mod queueing;
mod results;
mod rolling;
mod rust;
mod signals;
mod stage;
