use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(3600);

/// Reads until it ends; gives how.
async fn read_on(patient: &mut Patient<DuplexStream>) -> io::ErrorKind {
    loop {
        match patient.read(&mut [0; 16]).await {
            Ok(0) => return io::ErrorKind::UnexpectedEof,
            Ok(_) => {}
            Err(error) => return error.kind(),
        }
    }
}

/// Sends a byte at a time until nobody reads any more.
async fn drip(mut far: DuplexStream) {
    while far.write_all(b"x").await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[actix_web::test]
async fn a_dripping_request_is_cut_off_and_so_is_one_that_stops_in_its_middle() {
    for silent in [false, true] {
        let (near, mut far) = duplex(64);
        let mut patient = Patient::new(near, SHORT);
        far.write_all(b"GET ").await.unwrap();
        let reading = async {
            let ended = read_on(&mut patient).await;
            drop(patient);
            ended
        };
        let ended = if silent { reading.await } else { tokio::join!(reading, drip(far)).0 };
        assert_eq!(ended, io::ErrorKind::TimedOut);
    }
}

#[actix_web::test]
async fn an_answer_and_progress_give_as_much_time_again() {
    let (near, mut far) = duplex(64);
    let mut patient = Patient::new(near, SHORT);
    let progress = patient.progress();
    far.write_all(b"question").await.unwrap();
    assert_eq!(patient.read(&mut [0; 16]).await.unwrap(), 8);
    // Said in time, whenever the timer is looked at.
    progress.made();
    let began = Instant::now();
    assert_eq!(read_on(&mut patient).await, io::ErrorKind::TimedOut);
    assert!(began.elapsed() >= SHORT);
    // Bytes that were answered wait for nothing.
    let (near, mut far) = duplex(64);
    let mut patient = Patient::new(near, LONG);
    far.write_all(b"question").await.unwrap();
    assert_eq!(patient.read(&mut [0; 16]).await.unwrap(), 8);
    assert!(patient.asked.is_some());
    patient.write_all(b"answer").await.unwrap();
    assert!(patient.asked.is_none());
    drop(far);
    assert_eq!(read_on(&mut patient).await, io::ErrorKind::UnexpectedEof);
}

#[actix_web::test]
async fn an_idle_connection_is_somebody_elses_business() {
    let (near, mut far) = duplex(64);
    let mut patient = Patient::new(near, Duration::ZERO);
    // Its timer is over, and nothing has come: it waits.
    let nothing = std::future::poll_fn(|context| {
        let mut bytes = [0; 4];
        Poll::Ready(Pin::new(&mut patient).poll_read(context, &mut ReadBuf::new(&mut bytes)).is_pending())
    });
    assert!(nothing.await);
    far.write_all(b"x").await.unwrap();
    assert_eq!(patient.read(&mut [0; 4]).await.unwrap(), 1);
}
