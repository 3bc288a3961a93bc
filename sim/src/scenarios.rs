//! The incidents of other systems, each as a directed test of whole nodes.
//!
//! Random runs (`simulation.rs`) find what nobody thought of; these show that what was
//! thought of is survived, step by step, and that the bug planted for it is noticed.
//! Which scenario is covered where is in `scenarios/README.md`. The stage and its nodes
//! are in `theatre.rs`; a scenario is a function of it, so that the same one runs with and
//! without a planted bug.

mod disks;
mod isolation;
mod isr;
mod moves;
mod queue_steps;
mod restarts;
mod space;
mod theatre;
mod voters;
