//! Numbers of things in texts for people.

/// "1 device", "3 devices".
pub fn counted(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
