//! A browser: Debian's Chromium without a screen, driven by its own driver as [WebDriver] says. What
//! is needed of that is six calls, which a client library would bring eighteen crates for.
//!
//! [WebDriver]: https://www.w3.org/TR/webdriver2/

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use pointsman_test_brokers::free_port;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;
use crate::{Caller, until};

/// The key under which an element is named: WebDriver, section 11.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window. It ends with its handle.
#[derive(Debug)]
pub struct Browser {
    caller: Caller,
    /// Where its session is.
    session: String,
    _driver: Process,
    _profile: TempDir,
}

/// A text in what the driver has answered.
fn text<'v>(told: &'v Value, key: &str) -> &'v str {
    let found = told.get(key).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("the driver told no {key}: {told:#}"))
}

fn is_there(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").output();
    asked.is_ok_and(|output| output.status.success())
}

impl Browser {
    /// Starts one; none where there is no Chromium, or no driver of it.
    ///
    /// # Panics
    /// Where it is there and does not start.
    pub async fn start() -> Option<Self> {
        if !is_there("chromium") || !is_there("chromedriver") {
            return None;
        }
        let (port, caller) = (free_port(), Caller::new());
        let driver = Process::start(Command::new("chromedriver").arg(format!("--port={port}")));
        let url = format!("http://127.0.0.1:{port}");
        until("the driver is ready", async || {
            caller.get(&format!("{url}/status")).await.is_ok()
        })
        .await;
        let profile = tempfile::tempdir().expect("a temporary folder can be made");
        let profile_argument = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless=new",
            // Containers have neither what its sandbox needs nor much shared memory.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
            // So that it ends with its driver.
            "--remote-debugging-pipe",
            &profile_argument,
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let mut browser = Self {
            caller,
            session: format!("{url}/session"),
            _driver: driver,
            _profile: profile,
        };
        let begun = browser.call(Method::POST, "", wanted).await;
        let id = text(&begun, "sessionId");
        browser.session = format!("{url}/session/{id}");
        Some(browser)
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let url = format!("{}{path}", self.session);
        let body = match method {
            Method::GET | Method::DELETE => String::new(),
            _ => body.to_string(),
        };
        let headers = [("content-type", "application/json")];
        let answer = self.caller.call(method, &url, &headers, body).await;
        let (status, _, body) = answer.expect("the driver answers");
        let mut told: Value = serde_json::from_slice(&body).expect("the driver answers JSON");
        assert_eq!(status, 200, "{path}: {told:#}");
        told.get_mut("value").map(Value::take).unwrap_or_default()
    }

    /// Goes to a page and waits until it is loaded.
    pub async fn go(&self, url: &str) {
        self.call(Method::POST, "/url", json!({ "url": url })).await;
    }

    /// Runs the body of a function in the page, and returns what that returns, once it is settled.
    pub async fn run(&self, script: &str) -> Value {
        let body = json!({ "script": script, "args": [] });
        self.call(Method::POST, "/execute/sync", body).await
    }

    /// Whether an expression is true in the page.
    pub async fn holds(&self, expression: &str) -> bool {
        self.run(&format!("return Boolean({expression})")).await == true
    }

    async fn element(&self, css: &str) -> String {
        let wanted = json!({ "using": "css selector", "value": css });
        let found = self.call(Method::POST, "/element", wanted).await;
        let id = text(&found, ELEMENT);
        format!("/element/{id}")
    }

    /// Clicks on what a selector finds first, as a person does: it must be seen.
    pub async fn click(&self, css: &str) {
        let element = self.element(css).await;
        self.call(Method::POST, &format!("{element}/click"), json!({}))
            .await;
    }

    /// Types into a field that a selector finds, in the place of what is in it.
    pub async fn write(&self, css: &str, text: &str) {
        let element = self.element(css).await;
        self.call(Method::POST, &format!("{element}/clear"), json!({}))
            .await;
        let body = json!({ "text": text });
        self.call(Method::POST, &format!("{element}/value"), body)
            .await;
    }

    /// What a command of Chromium's own protocol returns.
    async fn command(&self, name: &str, parameters: Value) {
        let body = json!({ "cmd": name, "params": parameters });
        self.call(Method::POST, "/goog/cdp/execute", body).await;
    }

    /// Shows pages as a window of this width does, light or dark.
    pub async fn look(&self, width: u32, is_dark: bool) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", size)
            .await;
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", features).await;
    }

    /// What the page has written to its console, and what it was refused, since this was asked last.
    pub async fn console(&self) -> Vec<String> {
        let told = self
            .call(Method::POST, "/se/log", json!({ "type": "browser" }))
            .await;
        let lines = told.as_array().into_iter().flatten();
        lines.map(ToString::to_string).collect()
    }

    /// Writes what is seen of the page into a file.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub async fn picture(&self, file: &Path) {
        let picture = self.call(Method::GET, "/screenshot", Value::Null).await;
        let text = picture.as_str().expect("a picture is text in base64");
        let bytes = STANDARD.decode(text).expect("a picture is base64");
        std::fs::write(file, bytes).expect("the picture can be written");
    }
}
