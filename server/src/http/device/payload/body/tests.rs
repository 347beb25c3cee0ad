use std::{
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use callboard_proto::ids::DeviceId;
use uuid::Uuid;

use super::{super::transfers::Transfers, *};

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
    file
}

fn sample(len: usize) -> Vec<u8> {
    (0_u32..).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(len).collect()
}

/// Collects a body; gives its pieces and what was counted.
async fn collect(file: File, range: Range<u64>) -> (io::Result<Vec<Bytes>>, u64) {
    let served = Arc::new(AtomicU64::new(0));
    let transfers = Transfers::new(1, None, served.clone());
    let mut body = Box::pin(Body::new(file, range, transfers.admit(DeviceId::from_uuid(Uuid::nil())).unwrap(), None));
    let mut pieces = Vec::new();
    let result = loop {
        match std::future::poll_fn(|context| body.as_mut().poll_next(context)).await {
            None => break Ok(pieces),
            Some(Ok(piece)) => pieces.push(piece),
            Some(Err(error)) => break Err(error),
        }
    };
    (result, served.load(Ordering::Relaxed))
}

#[actix_web::test]
async fn a_range_arrives_byte_for_byte_however_it_lies_to_the_pieces() {
    let bytes = sample(3 * PIECE + 17);
    let len = u64::try_from(bytes.len()).unwrap();
    let piece = u64::try_from(PIECE).unwrap();
    for range in [0..len, 0..1, len - 1..len, 5..piece + 5, piece..2 * piece, piece - 1..piece + 1, 7..7] {
        let (pieces, served) = collect(file(&bytes), range.clone()).await;
        let (from, to) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        assert_eq!(pieces.unwrap().concat(), &bytes[from..to], "{range:?}");
        assert_eq!(served, range.end - range.start);
    }
}

#[actix_web::test]
async fn bytes_that_the_page_cache_does_not_have_arrive_as_well() {
    let bytes = sample(10 * PIECE + 1);
    let file = file(&bytes);
    // Where the file system lets go of them, this is the cold path; where it does not (memory), the warm one.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let (pieces, _) = collect(file, 0..u64::try_from(bytes.len()).unwrap()).await;
    assert_eq!(pieces.unwrap().concat(), bytes);
}

#[test]
fn a_cold_piece_is_the_same_as_a_warm_one() {
    let bytes = sample(PIECE + 100);
    let file = file(&bytes);
    for (at, wanted) in [(0, PIECE), (100, PIECE), (1000, 10)] {
        let cold = read_cold(&file, at, wanted).unwrap();
        let from = usize::try_from(at).unwrap();
        assert_eq!(cold, &bytes[from..from + wanted]);
        if let Some(warm) = read_cached(&file, at, wanted).unwrap() {
            assert_eq!(warm, cold.slice(..warm.len()));
        }
    }
}

#[test]
fn warm_pieces_share_a_buffer_unless_one_is_still_held() {
    let file = file(&sample(PIECE));
    let read = || read_cached(&file, 0, PIECE).unwrap();
    let Some(first) = read() else { return };
    let address = first.as_ptr();
    drop(first);
    let second = read().unwrap();
    assert_eq!(second.as_ptr(), address);
    let third = read().unwrap();
    assert_ne!(third.as_ptr(), address);
    assert_eq!(second, third);
}

#[actix_web::test]
async fn a_file_that_became_shorter_ends_in_an_error_and_never_in_silence() {
    let file = file(&sample(PIECE + 10));
    let (pieces, _) = collect(file, 0..u64::try_from(PIECE + 11).unwrap()).await;
    assert_eq!(pieces.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let cold = read_cold(&super::tests::file(b""), 0, 1);
    assert_eq!(cold.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}
