//! The signals that end a waiting command early, as a descriptor. Never for a supervisor: handlers are installed here.

use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::{flag, low_level};

use super::signals::is_ignored;
use crate::signal::Signal;

/// INT, TERM, HUP and QUIT, where they were not ignored at the start.
pub(crate) struct Interrupt {
    pipe: PipeReader,
    /// Keeps the pipe open where no signal is caught: the descriptor of a closed one is readable.
    _writer: PipeWriter,
    /// The number of the signal that came, or 0.
    came: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Catches the signals from now on. A signal that was ignored at the start stays ignored (nohup, a background job
    /// of a script). One that cannot be caught, for want of a descriptor or a thread, has its default effect.
    ///
    /// # Errors
    /// Those of `pipe(2)`: no signal is caught.
    pub(crate) fn new() -> std::io::Result<Self> {
        let (pipe, writer) = std::io::pipe()?;
        let came = Arc::new(AtomicUsize::new(0));
        for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
            if is_ignored(signal, false) {
                continue;
            }
            let caught = writer.try_clone().and_then(|writer| match signal {
                Signal::INT => catch_int(writer, came.clone()),
                signal => catch(signal, writer, came.clone()),
            });
            if caught.is_err() {
                is_ignored(signal, true);
            }
        }
        Ok(Self { pipe, _writer: writer, came })
    }

    /// The signal that came. The descriptor is readable then.
    pub(crate) fn came(&self) -> Option<Signal> {
        i32::try_from(self.came.load(Ordering::SeqCst)).ok().and_then(Signal::from_number)
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

fn code(signal: Signal) -> usize {
    usize::try_from(signal.number()).unwrap_or(0)
}

/// Ctrl-C, in a thread of ctrlc.
fn catch_int(mut writer: PipeWriter, came: Arc<AtomicUsize>) -> std::io::Result<()> {
    ctrlc::set_handler(move || {
        came.store(code(Signal::INT), Ordering::SeqCst);
        let _ = writer.write(&[0]);
    })
    .map_err(std::io::Error::other)
}

/// Any other, in a handler of signal-hook. It sets the flag before it writes, as the actions run in this order.
fn catch(signal: Signal, writer: PipeWriter, came: Arc<AtomicUsize>) -> std::io::Result<()> {
    flag::register_usize(signal.number(), came, code(signal))?;
    low_level::pipe::register(signal.number(), writer).map(drop)
}

/// Ends this process by a signal, as if it had never been caught. Returns where this is not possible: the kernel
/// protects pid 1 from its own signals.
pub(crate) fn end_by(signal: Signal) {
    if std::process::id() != 1 {
        let _ = low_level::emulate_default_handler(signal.number());
    }
}
