mod bench;
mod cost;
mod disk;
mod faults;
mod flow;
mod follow;
mod outcomes;
