//! A server that answers as it is told.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// The status and the body to an action, such as `ReceiveMessage`, that has been asked for so often
/// before.
type Answers = dyn Fn(&str, usize) -> (u16, String) + Send + Sync;

/// What was asked, by action.
type Asked = Arc<Mutex<HashMap<String, Vec<Value>>>>;

pub(super) struct Canned {
    endpoint: String,
    asked: Asked,
    _serving: AbortOnDropHandle<()>,
}

impl Canned {
    pub(super) async fn start(
        answers: impl Fn(&str, usize) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (answers, asked): (Arc<Answers>, Asked) = (Arc::new(answers), Arc::default());
        let noted = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, noted) = (Arc::clone(&answers), Arc::clone(&noted));
                tokio::spawn(async move {
                    let _ = serve(stream, &*answers, &noted).await;
                });
            }
        });
        Self {
            endpoint,
            asked,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The requests for an action.
    pub(super) fn asked(&self, action: &str) -> Vec<Value> {
        self.asked.lock().get(action).cloned().unwrap_or_default()
    }
}

async fn serve(stream: TcpStream, answers: &Answers, asked: &Asked) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut action, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(found) = line.strip_prefix("content-length:") {
                length = found.trim().parse().unwrap();
            }
            if let Some(found) = line.strip_prefix("x-amz-target: amazonsqs.") {
                action = found.to_owned();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let name = ACTIONS
            .into_iter()
            .find(|name| name.eq_ignore_ascii_case(&action))
            .unwrap_or_default();
        let count = {
            let mut asked = asked.lock();
            let requests = asked.entry(name.to_owned()).or_default();
            requests.push(serde_json::from_slice(&body).unwrap_or_default());
            requests.len() - 1
        };
        let (status, body) = answers(name, count);
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
    }
}

const ACTIONS: [&str; 8] = [
    "GetQueueUrl",
    "GetQueueAttributes",
    "ReceiveMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibilityBatch",
    "SendMessage",
    "SendMessageBatch",
    "CreateQueue",
];
