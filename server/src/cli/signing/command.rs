//! An external signer: any program that has the key. The bytes to sign go to its standard input, the signature comes
//! from its standard output; standard error and the terminal stay its own, for a PIN or a hint to touch the token.

use std::{
    io::{self, Read as _, Write as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use callboard_proto::signed::{PublicKey, SIGNATURE_BYTES, SignatureBytes};
use rustix::process::{Pid, Signal, kill_process};

/// A signature in DER has 72 bytes at most; whoever writes more than this writes something else.
const MAX_OUTPUT: u64 = 4096;

/// Lets `command` sign `message`. What it gives is checked against its public key before anybody relies on it.
pub(super) fn signature(
    command: &str,
    public: &PublicKey,
    message: &[u8],
    timeout: Duration,
) -> anyhow::Result<SignatureBytes> {
    let (status, output) = run(command, message, timeout).with_context(|| format!("cannot sign with `{command}`"))?;
    if !status.success() {
        anyhow::bail!("`{command}` ended with {status} and signed nothing");
    }
    let signature = read(&output, public).ok_or_else(|| {
        let also = if is_ecdsa(public) { ", or a signature in DER," } else { "" };
        anyhow::anyhow!("`{command}` wrote {} bytes; {SIGNATURE_BYTES}{also} are wanted", output.len())
    })?;
    if !public.verifies(message, &signature) {
        let id = public.id();
        anyhow::bail!("`{command}` wrote a signature that is not one of these bytes by key {id}: another key?");
    }
    Ok(signature)
}

fn is_ecdsa(public: &PublicKey) -> bool {
    matches!(public, PublicKey::EcdsaP256(_))
}

/// OpenSSL and most tokens write ECDSA signatures in DER; 64 bytes carry the same two numbers.
fn read(output: &[u8], public: &PublicKey) -> Option<SignatureBytes> {
    let der = || p256::ecdsa::Signature::from_der(output).ok().map(|signature| signature.to_bytes().into());
    output.try_into().ok().or_else(|| if is_ecdsa(public) { der() } else { None })
}

fn run(command: &str, message: &[u8], timeout: Duration) -> anyhow::Result<(ExitStatus, Vec<u8>)> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start sh")?;
    let pid = Pid::from_child(&child);
    let (sender, receiver) = mpsc::channel();
    let stdin = child.stdin.take();
    let message = message.to_vec();
    // A command that does not read everything may still sign; the pipe then breaks, which is its own affair.
    thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&message)));
    thread::spawn(move || sender.send(collect(child)));
    match receiver.recv_timeout(timeout) {
        Ok(result) => Ok(result?),
        Err(_elapsed) => {
            // It may have ended just now.
            let _ = kill_process(pid, Signal::KILL);
            anyhow::bail!("it did not end within {} s (see --signer-timeout)", timeout.as_secs())
        }
    }
}

fn collect(mut child: Child) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_OUTPUT).read_to_end(&mut output)?;
    }
    Ok((child.wait()?, output))
}

#[cfg(test)]
mod tests {
    use callboard_proto::signed::Sign as _;
    use ed25519_dalek::SigningKey;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    /// A command that writes these bytes, after it has read everything.
    fn writes(bytes: &[u8]) -> String {
        let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
        format!("cat >/dev/null; printf '{octal}'")
    }

    fn failure(command: &str, timeout: Duration) -> String {
        format!("{:#}", signature(command, &key().public(), b"message", timeout).unwrap_err())
    }

    #[test]
    fn sixty_four_bytes_that_verify_are_taken() {
        let wanted = key().signature(b"message");
        assert_eq!(signature(&writes(&wanted), &key().public(), b"message", LONG).unwrap(), wanted);
    }

    #[test]
    fn an_ecdsa_signature_in_der_becomes_sixty_four_bytes() {
        let key = p256::ecdsa::SigningKey::from_bytes(&[7; 32].into()).unwrap();
        let wanted = key.signature(b"message");
        let der = p256::ecdsa::Signature::from_slice(&wanted).unwrap().to_der();
        for written in [der.as_bytes(), &wanted] {
            assert_eq!(signature(&writes(written), &key.public(), b"message", LONG).unwrap(), wanted);
        }
    }

    #[test]
    fn what_is_no_signature_is_told_in_one_line() {
        for (command, wanted) in [
            ("exit 3", "ended with exit status: 3"),
            ("cat >/dev/null", "wrote 0 bytes; 64 are wanted"),
            ("head -c 65 /dev/zero", "wrote 65 bytes"),
            ("yes", "and signed nothing"),
            ("head -c 64 /dev/zero", "another key?"),
            ("no-such-program-anywhere", "ended with exit status: 127"),
        ] {
            let said = failure(command, LONG);
            assert!(said.contains(wanted) && !said.contains('\n'), "{command}: {said}");
        }
    }

    #[test]
    fn a_signature_by_another_key_is_refused() {
        let other = SigningKey::from_bytes(&[8; 32]).signature(b"message");
        assert!(failure(&writes(&other), LONG).contains("another key?"));
    }

    #[test]
    fn a_command_that_never_ends_is_given_up() {
        assert!(failure("exec sleep 1000", Duration::from_millis(50)).contains("--signer-timeout"));
    }
}
