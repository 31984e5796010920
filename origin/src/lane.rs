//! Which of the threads that answer requests this is. Each has a runtime of its own and, in the store, a connection of its own:
//! a request and what it asks of Redis stay on one thread, and no other one is woken for them.

use std::{cell::Cell, num::NonZeroUsize, thread};

thread_local! {
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The number of this thread among those that answer requests, from 0; none on any other thread.
pub(crate) fn current() -> Option<usize> {
    CURRENT.get()
}

/// Makes this thread the one with this number.
pub(crate) fn enter(number: usize) {
    CURRENT.set(Some(number));
}

/// How many there are: one per core.
pub(crate) fn count() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
