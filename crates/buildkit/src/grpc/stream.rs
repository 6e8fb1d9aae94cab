//! Messages in the data of an HTTP/2 stream: a flag, a length of four bytes, the message (gRPC over HTTP2,
//! "Length-Prefixed-Message").

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use tokio::sync::mpsc;

use super::{Code, MAX_MESSAGE, Status};

/// How many messages may wait on either side.
pub(super) const QUEUE: usize = 32;

/// A message with its prefix.
pub(super) fn framed(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(length + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // A buffer that grows has room for everything.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

/// Reads a message.
pub(super) fn parsed<M: prost::Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|e| Status::new(Code::InvalidArgument, format!("a message cannot be read: {e}")))
}

/// Moves messages from the wire to a queue until the data ends, or nobody takes them any more; a trouble is the last item.
pub(super) async fn receive(mut body: RecvStream, queue: mpsc::Sender<Result<Bytes, Status>>) -> RecvStream {
    let mut buffer = BytesMut::new();
    loop {
        match take(&mut buffer) {
            Ok(Some(message)) => {
                if queue.send(Ok(message)).await.is_err() {
                    return body;
                }
                continue;
            }
            Ok(None) => {}
            Err(status) => {
                let _ = queue.send(Err(status)).await;
                return body;
            }
        }
        match body.data().await {
            Some(Ok(data)) => {
                let _ = body.flow_control().release_capacity(data.len());
                buffer.extend_from_slice(&data);
            }
            Some(Err(e)) => {
                let _ = queue.send(Err(Status::gone(e))).await;
                return body;
            }
            None if buffer.is_empty() => return body,
            None => {
                let _ = queue.send(Err(Status::new(Code::Internal, "a message was cut off"))).await;
                return body;
            }
        }
    }
}

/// The next whole message of what has arrived.
fn take(buffer: &mut BytesMut) -> Result<Option<Bytes>, Status> {
    let Some((head, rest)) = buffer.split_first_chunk::<5>() else { return Ok(None) };
    let [flag, length @ ..] = *head;
    let length = u32::from_be_bytes(length) as usize;
    if flag != 0 {
        return Err(Status::new(Code::Unimplemented, "compressed messages are not understood"));
    }
    if length > MAX_MESSAGE {
        return Err(Status::new(Code::ResourceExhausted, format!("a message of {length} bytes is too long")));
    }
    if rest.len() < length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Writes one framed message as the window allows.
pub(super) async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = match std::future::poll_fn(|context| stream.poll_capacity(context)).await {
            Some(room) => room?,
            None => return Err(h2::Reason::CANCEL.into()),
        };
        let n = room.min(bytes.len());
        stream.send_data(bytes.split_to(n), false)?;
    }
    Ok(())
}
