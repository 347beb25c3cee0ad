//! A file of a zip archive as it lies there, stored or deflated.

const END: [u8; 4] = *b"PK\x05\x06";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";

/// What the archive has of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packed<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) deflated: bool,
    /// Of the file, little-endian.
    pub(super) crc32: [u8; 4],
    /// Of the file, little-endian.
    pub(super) size: [u8; 4],
}

/// The file of that name below the one directory at the archive's top.
pub(super) fn find<'a>(archive: &'a [u8], name: &str) -> Option<Packed<'a>> {
    let end = archive.windows(4).rposition(|bytes| bytes == END)?;
    let mut at = long(archive, end + 16)?;
    while take::<4>(archive, at)? == ENTRY {
        let [own, extra, comment] = [28, 30, 32].map(|field| short(archive, at + field));
        let path = archive.get(at + 46..)?.get(..own?)?;
        if path.split(|c| *c == b'/').next().is_some_and(|top| path.get(top.len() + 1..) == Some(name.as_bytes())) {
            return packed(archive, at);
        }
        at += 46 + own? + extra? + comment?;
    }
    None
}

fn packed(archive: &[u8], entry: usize) -> Option<Packed<'_>> {
    let local = long(archive, entry + 42)?;
    if take::<4>(archive, local)? != LOCAL {
        return None;
    }
    let begin = local + 30 + short(archive, local + 26)? + short(archive, local + 28)?;
    let deflated = match short(archive, entry + 10)? {
        0 => false,
        8 => true,
        _ => return None,
    };
    let bytes = archive.get(begin..)?.get(..long(archive, entry + 20)?)?;
    Some(Packed { bytes, deflated, crc32: take(archive, entry + 16)?, size: take(archive, entry + 24)? })
}

fn take<const N: usize>(archive: &[u8], at: usize) -> Option<[u8; N]> {
    archive.get(at..)?.first_chunk().copied()
}

fn short(archive: &[u8], at: usize) -> Option<usize> {
    take(archive, at).map(|bytes| usize::from(u16::from_le_bytes(bytes)))
}

fn long(archive: &[u8], at: usize) -> Option<usize> {
    take(archive, at).and_then(|bytes| usize::try_from(u32::from_le_bytes(bytes)).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_is_cut_off_has_no_files() {
        let archive = utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
        assert!(find(archive, "NOTICE").is_some_and(|file| !file.deflated && file.bytes.starts_with(b"swagger-ui")));
        assert_eq!(find(archive, "no/such/file"), None);
        assert_eq!(find(&archive[..archive.len() / 2], "NOTICE"), None);
        assert_eq!(find(&archive[archive.len() - 1000..], "NOTICE"), None);
        assert_eq!(find(b"", "NOTICE"), None);
    }
}
