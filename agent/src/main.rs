//! The program `callboard-agent`.

fn main() {
    callboard_agent::main();
}
