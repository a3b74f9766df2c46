//! Test support.
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};

thread_local! {
    pub(crate) static LOCKS: Cell<u32> = const { Cell::new(0) };
    pub(crate) static SENT: RefCell<Vec<(String, u32)>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn sent() {
    let stack = Backtrace::force_capture().to_string();
    SENT.with(|sent| sent.borrow_mut().push((stack, LOCKS.with(Cell::get))));
}
