fn main() {
    callboard_agent::main();
}
