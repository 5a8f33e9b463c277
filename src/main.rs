//! The `fireflow-worker` binary: parse, dispatch, exit code. Nothing else.

fn main() -> std::process::ExitCode {
    fireflow_worker::cli::main(std::env::args_os())
}
