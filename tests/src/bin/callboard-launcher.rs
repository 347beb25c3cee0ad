fn main() -> std::process::ExitCode {
    callboard_launcher::main()
}
