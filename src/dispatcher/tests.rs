mod batch;
mod bench;
mod disk;
mod faults;
mod flow;
mod follow;
mod isolation;
mod outcomes;
