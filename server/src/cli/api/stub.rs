//! A server of canned answers for tests of the caller's side: no routes, no logic.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

use super::Api;
use crate::cli::connection::Connection;

/// What came in: method and path, headers in lower case, body.
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

/// Gives each answer (status and JSON) to one request, in order, then ends.
pub(crate) fn serve(answers: Vec<(u16, String)>) -> (Api, JoinHandle<Vec<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = thread::spawn(move || {
        let one = |(status, body)| answer(&listener.accept().expect("a connection").0, status, body);
        answers.into_iter().map(one).collect()
    });
    let to = Connection { server, token: "cba_secret".to_owned(), token_from: "--token".to_owned(), ca: None };
    (Api::new(&to).expect("an API"), serving)
}

fn answer(stream: &TcpStream, status: u16, answer: String) -> Seen {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a request line");
    let mut headers = String::new();
    while !headers.ends_with("\r\n\r\n") && reader.read_line(&mut headers).expect("a header") > 2 {}
    let headers = headers.to_lowercase();
    let length = headers.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    reader.read_exact(&mut body).expect("the body");
    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", answer.len());
    let mut writer = stream;
    writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(answer.as_bytes())).expect("answered");
    Seen { line: line.trim_end().trim_end_matches(" HTTP/1.1").to_owned(), headers, body }
}
