fn main() {
    callboard_server::main();
}
