//! The program `callboard-launcher`: its arguments are the agent's.

fn main() -> std::process::ExitCode {
    callboard_launcher::main()
}
