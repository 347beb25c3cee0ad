//! What may be wrong with payloads and chunk lists, and with the way in which they are sent.

use callboard_proto::{paths, payload::CHUNK_SIZE};
use callboard_tests::{
    hostile::{Answer, Asked, End, Kit, Software},
    release::bytes,
};

use super::{
    Case, Sign,
    Sign::{Counts, Says},
    answer, to_payload,
};

/// Every request for the payload is answered so.
fn payload(name: &'static str, sign: Sign, change: fn(&[u8], &Asked) -> Answer) -> Case {
    answer(name, sign, move |kit, asked| to_payload(kit, asked, |whole| change(whole, asked)))
}

/// The chunk list is another one.
fn list(name: &'static str, sign: Sign, change: fn(&[u8]) -> Vec<u8>) -> Case {
    answer(name, sign, move |kit, asked| {
        let list = kit.software.payloads[0].chunks_sha256;
        (asked.path == paths::payload(list)).then(|| Answer::ok(change(&kit.software.files[&list])))
    })
}

/// Two payloads of the same size in several chunks.
fn two(kit: &Kit, asked: &Asked) -> Option<Answer> {
    let [first, second] = &kit.software.payloads[..] else { unreachable!() };
    let swapped = [(first, second), (second, first)];
    let (_, other) = swapped.iter().find(|(one, _)| asked.path == paths::payload(one.sha256))?;
    Some(Answer::part(&kit.software.files[&other.sha256], asked.range.as_deref()))
}

fn swapped() -> Case {
    let software = |stolen: &callboard_tests::hostile::Stolen| {
        let contents = [bytes("one", 5000), bytes("two", 5000)];
        let parts = contents.clone().map(|part| stolen.software_of(part, |_| {}));
        let whole = stolen.software_of(contents[0].clone(), |release| {
            let mut second = parts[1].payloads[0].clone();
            second.name = "second".to_owned();
            release.payloads.push(second);
        });
        let files = parts.iter().flat_map(|part| part.files.clone()).collect();
        Software { files, ..whole }
    };
    Case { software: Box::new(software), ..answer("two payloads in each other's place", Counts("bad_chunk"), two) }
}

/// A payload that is another one after its first chunk, once the connection was cut there.
fn replaced() -> Case {
    let chunk = usize::try_from(CHUNK_SIZE).unwrap();
    let cut = move |whole: &[u8], asked: &Asked| {
        let answer = Answer::part(whole, asked.range.as_deref());
        if asked.before > 0 {
            let other = bytes("another", whole.len());
            return Answer::part(&other, asked.range.as_deref());
        }
        let length = answer.body.len();
        Answer { body: answer.body[..chunk].to_vec(), ..answer }
            .header("content-length", length.to_string())
            .end(End::Cut)
    };
    Case {
        software: Box::new(move |stolen| {
            stolen.software_of(bytes("harm", 3 * chunk), |release| {
                release.payloads[0].unpacked_size = 3 * u64::from(CHUNK_SIZE);
            })
        }),
        ..answer("a payload that is replaced between two ranges", Counts("bad_chunk"), move |kit, asked| {
            to_payload(kit, asked, |whole| cut(whole, asked))
        })
    }
}

#[expect(clippy::too_many_lines, reason = "one entry for each attack")]
pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        payload("a byte of the payload is another one", Counts("bad_chunk"), |whole, asked| {
            let mut whole = whole.to_vec();
            whole[1500] ^= 1;
            Answer::part(&whole, asked.range.as_deref())
        }),
        list("a bit of the chunk list is flipped", Counts("bad_chunk"), |list| {
            let mut list = list.to_vec();
            list[0] ^= 1;
            list
        }),
        list("the chunk list has one chunk too many", Counts("oversize"), |list| [list, list].concat()),
        list("the chunk list has no chunk", Counts("bad_chunk"), |_| Vec::new()),
        payload("a payload that is shorter", Says("bad_range"), |whole, asked| {
            Answer::part(&whole[..whole.len() - 1], asked.range.as_deref())
        }),
        payload("a payload that is longer by a byte", Says("bad_range"), |whole, asked| {
            Answer::part(&[whole, b"x"].concat(), asked.range.as_deref())
        }),
        payload("a payload that ends early", Says("download"), |whole, asked| {
            let answer = Answer::part(whole, asked.range.as_deref());
            let length = answer.body.len();
            Answer { body: answer.body[..100].to_vec(), ..answer }
                .header("content-length", length.to_string())
                .end(End::Cut)
        }),
        payload("another payload, without end", Counts("bad_chunk"), |_, _| {
            Answer::ok(vec![b'x'; 4096]).end(End::Endless)
        }),
        payload("a byte now and then", Counts("slow"), |whole, asked| {
            Answer::part(whole, asked.range.as_deref()).end(End::Trickle)
        }),
        payload("a range that begins elsewhere", Says("bad_range"), |whole, _| {
            Answer { status: 206, ..Answer::ok(&whole[1..]) }.header("content-range", "bytes 1-2999/3000")
        }),
        payload("a range of a payload of another size", Says("bad_range"), |whole, _| {
            Answer { status: 206, ..Answer::ok(whole) }.header("content-range", "bytes 0-2999/9000")
        }),
        payload("a range that does not say which", Says("bad_range"), |whole, _| Answer {
            status: 206,
            ..Answer::ok(whole)
        }),
        payload("ranges in several parts", Says("bad_range"), |whole, _| {
            Answer { status: 206, ..Answer::ok(whole) }.header("content-type", "multipart/byteranges; boundary=x")
        }),
        payload("a range with numbers beyond all numbers", Says("bad_range"), |whole, _| {
            Answer { status: 206, ..Answer::ok(whole) }
                .header("content-range", "bytes 0-99999999999999999999999/99999999999999999999999")
        }),
        payload("a payload in an encoding", Says("download"), |whole, asked| {
            Answer::part(whole, asked.range.as_deref()).header("content-encoding", "gzip")
        }),
        payload("a redirect to another host", Says("download"), |_, _| {
            Answer::status(302).header("location", "https://example.com/harm")
        }),
        payload("a redirect to no TLS", Says("download"), |_, _| {
            Answer::status(301).header("location", "http://127.0.0.1/harm")
        }),
        answer("a redirect to itself", Says("download"), |kit, asked| {
            let location = asked.path.clone();
            to_payload(kit, asked, |_| Answer::status(307).header("location", location))
        }),
        swapped(),
        replaced(),
    ];
    for (name, status) in [
        ("status 404", 404),
        ("status 403", 403),
        ("status 408", 408),
        ("status 410", 410),
        ("status 416", 416),
        ("status 500", 500),
        ("status 204, and nothing", 204),
    ] {
        cases
            .push(answer(name, Says("download"), move |kit, asked| to_payload(kit, asked, |_| Answer::status(status))));
    }
    cases
}
