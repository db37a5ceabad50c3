mod bench;
mod faults;
mod flow;
mod follow;
mod outcomes;
