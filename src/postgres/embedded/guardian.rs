//! Stops the server when we are gone, however we went.
//!
//! Destructors don't run for statics, after `exit`, or when we are killed. The guardian is a small shell process that
//! waits for the end of a pipe that only we hold: the system closes it with us, and the guardian stops the server
//! (and removes a temporary data folder).

use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use super::Error;
use super::account::Account;
use super::error::Context;

/// $1 server's process, $2 signal, $3 the file that lives as long as the server, $4 folder to remove or nothing.
const SCRIPT: &str = r#"
read -r word && [ "$word" = released ] && exit 0
kill -s "$2" "$1" 2>/dev/null
tries=0
while [ -e "$3" ] && [ "$tries" -lt 600 ]; do
    sleep 0.05
    tries=$((tries + 1))
done
[ -n "$4" ] && rm -rf -- "$4"
"#;

/// The waiting process. Dropping it without [`release`](Guardian::release) lets it do its work.
#[derive(Debug)]
pub(super) struct Guardian(Child);

impl Guardian {
    /// Watch over the server process `pid`, which keeps `pid_file` for as long as it lives.
    pub(super) fn watch(
        account: &Account,
        pid: u32,
        pid_file: &Path,
        remove: Option<&Path>,
    ) -> Result<Guardian, Error> {
        let shell = Path::new("/bin/sh");
        let mut command = account.command(shell);
        // What is thrown away needs no checkpoint: QUIT ends at once. INT is PostgreSQL's fast shutdown.
        let signal = if remove.is_some() { "QUIT" } else { "INT" };
        command.args(["-c", SCRIPT, "fireflow-pg-guardian", &pid.to_string(), signal]).arg(pid_file);
        command.arg(remove.unwrap_or(Path::new("")));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Guardian(child.context("can't run", shell)?))
    }

    /// The server has ended, there is nothing more to guard.
    pub(super) fn release(mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = pipe.write_all(b"released\n"); // it has gone already: as good
        }
        let _ = self.0.wait();
    }
}
