//! As process 1 of a container: signals that nobody handles, and orphans.
//!
//! The kernel keeps signals with the default disposition from process 1, so that SIGTERM would be lost until the worker handles
//! it, and for good in commands that never do. And whatever loses its parent in the container becomes a child of process 1,
//! which is to look when it has ended, or its entry stays in the table of processes.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::StreamExt as _;
use rustix::process::{WaitOptions, wait};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;

/// Whether a signal ends the process at once, as it would any other process; only set in process 1.
static UNHANDLED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

fn is_first() -> bool {
    std::process::id() == 1
}

/// Before anything else: let SIGTERM and SIGINT end process 1, with the exit code that a shell would show.
pub(super) fn obey_signals() {
    if !is_first() {
        return;
    }
    let unhandled = UNHANDLED.get_or_init(|| Arc::new(AtomicBool::new(true)));
    for signal in [SIGTERM, SIGINT] {
        // Where it can't be done, signals are lost as they would be without it.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, unhandled.clone());
    }
}

/// The command handles signals itself, from now on.
pub(super) fn signals_are_handled() {
    if let Some(unhandled) = UNHANDLED.get() {
        unhandled.store(false, Ordering::SeqCst);
    }
}

/// Look after orphans for as long as the future is polled; at once over in any process but the first. For commands that start
/// no processes of their own: their ends would be taken for those of orphans.
///
/// # Errors
/// The handler can't be installed.
pub(super) fn adopt_orphans() -> io::Result<impl Future<Output = ()>> {
    let signals = if is_first() { Some(Signals::new([SIGCHLD])?) } else { None };
    Ok(async move {
        let Some(mut signals) = signals else { return };
        loop {
            // One signal may stand for several that ended, also before the handler was there.
            while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
            if signals.next().await.is_none() {
                return;
            }
        }
    })
}
