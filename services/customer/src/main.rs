//! The customer service; `--help` lists its subcommands.

fn main() -> std::process::ExitCode {
    server::main(customer::SERVICE)
}
