//! The reservation service; `--help` lists its subcommands.

/// glibc's arenas are contended when memory is freed on another worker than the one that took it, as it is here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    server::main(reservation::SERVICE)
}
