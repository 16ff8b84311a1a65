//! The daemon. Everything it does is in the library.

/// Half of what the system's own costs where many threads make and drop what is small; and it gives memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    revoked::daemon::main()
}
