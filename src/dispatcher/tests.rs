mod bench;
mod cost;
mod faults;
mod flow;
mod follow;
mod outcomes;
