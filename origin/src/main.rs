//! The binary `portcullis`: allocator, arguments, exit code. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use portcullis_origin::cli::{self, Arguments};

/// Short-lived small allocations on every request: measured 7 to 17 % faster than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis: {}", cli::told(&error));
            ExitCode::from(cli::exit_code(&error))
        }
    }
}
