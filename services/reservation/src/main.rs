//! The reservation service; `--help` lists its subcommands.

fn main() -> std::process::ExitCode {
    server::main(reservation::SERVICE)
}
