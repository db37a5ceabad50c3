//! A server that answers as it is told, for what speaks HTTP as AWS does.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use url::form_urlencoded;

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Reply {
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl<T: Into<String>> From<(u16, T)> for Reply {
    fn from((status, body): (u16, T)) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Its method and path.
    pub(crate) line: String,
    /// By names in lower case.
    pub(crate) headers: HashMap<String, String>,
    /// JSON, or the fields of a form.
    pub(crate) body: Value,
}

impl Asked {
    /// The action of a service that has some, such as `ReceiveMessage`; else the path.
    fn action(&self) -> String {
        if let Some(target) = self.headers.get("x-amz-target") {
            return target.rsplit('.').next().unwrap().to_owned();
        }
        match self.body.get("Action").and_then(Value::as_str) {
            Some(action) => action.to_owned(),
            None => self.line.split(' ').nth(1).unwrap_or_default().to_owned(),
        }
    }
}

/// The answer to a request whose action has been asked for so often before.
type Answers = dyn Fn(&Asked, usize) -> Reply + Send + Sync;

/// A server that answers as it is told.
pub(crate) struct Canned {
    endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Canned {
    pub(crate) async fn start<R: Into<Reply>>(
        answers: impl Fn(&str, usize) -> R + Send + Sync + 'static,
    ) -> Self {
        Self::serving(move |asked, count| answers(&asked.action(), count).into()).await
    }

    /// One that answers by all of a request.
    pub(crate) async fn judging(answers: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::serving(move |asked, _| answers(asked)).await
    }

    async fn serving(answers: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let answers: Arc<Answers> = Arc::new(answers);
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
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

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// The bodies of the requests for an action.
    pub(crate) fn asked(&self, action: &str) -> Vec<Value> {
        let all = self.requests().into_iter();
        let those = all.filter(|asked| asked.action() == action);
        those.map(|asked| asked.body).collect()
    }
}

async fn serve(
    stream: TcpStream,
    answers: &Answers,
    noted: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = read(&mut stream).await? {
        let action = asked.action();
        let count = {
            let mut noted = noted.lock();
            let before = noted.iter().filter(|asked| asked.action() == action);
            let count = before.count();
            noted.push(asked.clone());
            count
        };
        let Reply {
            status,
            headers,
            body,
        } = answers(&asked, count);
        let length = body.len();
        let mut answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n");
        for (name, value) in headers {
            answer.push_str(&format!("{name}: {value}\r\n"));
        }
        stream
            .write_all(format!("{answer}\r\n{body}").as_bytes())
            .await?;
    }
    Ok(())
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await?;
        match header.trim_end().split_once(':') {
            Some((name, value)) => {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            None => break,
        }
    }
    let length = headers
        .get("content-length")
        .map(|length| length.parse().unwrap());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let is_form = headers
        .get("content-type")
        .is_some_and(|media_type| media_type.starts_with("application/x-www-form-urlencoded"));
    let body = if is_form {
        let fields = form_urlencoded::parse(&body);
        let field = |(name, value): (Cow<'_, str>, Cow<'_, str>)| {
            (name.into_owned(), Value::from(value.into_owned()))
        };
        Value::Object(fields.map(field).collect())
    } else {
        serde_json::from_slice(&body).unwrap_or_default()
    };
    Ok(Some(Asked {
        line,
        headers,
        body,
    }))
}
