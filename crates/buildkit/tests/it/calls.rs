//! The transport.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluyt_buildkit::grpc::{Call, Code, Handler, Status};
use fluyt_buildkit::proto::{BytesMessage, Empty};

use crate::Pair;

struct Echo {
    gave_up: Mutex<Sender<()>>,
}

impl Handler for Echo {
    fn call(&self, call: &mut Call) -> Result<(), Status> {
        match call.method() {
            "/t/Once" => {
                let message: BytesMessage = call.request()?;
                call.send(&message)
            }
            "/t/Stream" => {
                while let Some(message) = call.receive::<BytesMessage>()? {
                    call.send(&message)?;
                }
                Ok(())
            }
            "/t/Name" => {
                let name = call.metadata("name").unwrap_or_default().as_bytes().to_vec();
                call.send(&BytesMessage { data: name })
            }
            "/t/Fail" => Err(Status::new(Code::NotFound, "no ümlaut at 100%\nhere")),
            "/t/Hang" => {
                let (tell, given_up) = channel();
                call.when_cancelled(move || tell.send(()).unwrap_or_default());
                call.send(&Empty {})?;
                given_up.recv_timeout(Duration::from_secs(20)).expect("told of the end");
                assert!(call.is_cancelled());
                self.gave_up.lock().expect("lock").send(()).expect("the test waits");
                Ok(())
            }
            other => Err(Status::unimplemented(other)),
        }
    }
}

fn pair() -> (Pair, Receiver<()>) {
    let (tell, told) = channel();
    (Pair::new(Arc::new(Echo { gave_up: Mutex::new(tell) })), told)
}

#[test]
fn messages_of_every_size_come_back() {
    let (pair, _) = pair();
    for size in [0, 1, 16 << 10, (1 << 20) + 3, 5 << 20] {
        let data: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).expect("small")).collect();
        let back: BytesMessage =
            pair.client.ask("/t/Once", &BytesMessage { data: data.clone() }).expect("answer");
        assert!(back.data == data, "{size}");
    }
}

#[test]
fn streams_hold_many_messages_both_ways() {
    let (pair, _) = pair();
    let (sender, mut answers) = pair.client.open("/t/Stream", &[]).expect("open").split();
    let feeder = std::thread::spawn(move || {
        for n in 0..2000_u32 {
            sender
                .send(&BytesMessage { data: vec![u8::try_from(n % 256).expect("small"); 1000] })
                .expect("sent");
        }
    });
    let mut got = 0_u32;
    while let Some(message) = answers.receive::<BytesMessage>().expect("stream") {
        assert_eq!(u32::from(message.data[0]), got % 256);
        got += 1;
    }
    feeder.join().expect("feeder");
    assert_eq!(got, 2000);
}

#[test]
fn a_status_keeps_its_code_and_words() {
    let (pair, _) = pair();
    let status = pair.client.ask::<Empty>("/t/Fail", &Empty {}).expect_err("refused");
    assert_eq!(status, Status::new(Code::NotFound, "no ümlaut at 100%\nhere"));
    assert_eq!(pair.client.ask::<Empty>("/t/None", &Empty {}).expect_err("none").code, Code::Unimplemented);
    let mut named = pair.client.open("/t/Name", &[("name", "x".to_owned())]).expect("open");
    assert_eq!(named.receive::<BytesMessage>().expect("answer").expect("one").data, b"x");
}

#[test]
fn who_gives_up_is_noticed_by_the_other_side() {
    let (pair, told) = pair();
    let mut stream = pair.client.open("/t/Hang", &[]).expect("open");
    assert!(stream.receive::<Empty>().expect("begun").is_some());
    drop(stream);
    told.recv_timeout(Duration::from_secs(20)).expect("a dropped call is told");
    let mut stream = pair.client.open("/t/Hang", &[]).expect("open");
    assert!(stream.receive::<Empty>().expect("begun").is_some());
    let client = pair.client.clone();
    drop(pair);
    told.recv_timeout(Duration::from_secs(20)).expect("a cut connection is told");
    assert!(!matches!(stream.receive::<Empty>(), Ok(Some(_))));
    assert!(client.is_gone());
    assert!(client.ask::<Empty>("/t/Once", &Empty {}).is_err());
}
