//! Benthos 4, the core of Redpanda Connect, as another bus beside ours: it takes what is posted,
//! looks at its type, and answers once the function has. It stores nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pointsman_integration_tests::bus::workspace;

/// The release that is built.
pub const VERSION: &str = "4.38.0";

const MODULE: &str = "github.com/redpanda-data/benthos/v4";

/// Builds it below `target/test-tools`, where that has not been done before.
///
/// # Errors
/// Why it is not there: Go is missing, or the build failed.
pub fn build() -> Result<PathBuf, String> {
    let folder = workspace().join("target/test-tools/benthos");
    let binary = folder.join(format!("benthos-{VERSION}"));
    if binary.exists() {
        return Ok(binary);
    }
    let go = go().ok_or("Go is not there to build it with")?;
    println!("building Benthos {VERSION} in {}", folder.display());
    let manifest = format!("module benthos\n\ngo 1.22\n\nrequire {MODULE} v{VERSION}\n");
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(folder.join("go.mod"), manifest))
        .map_err(|error| error.to_string())?;
    // Renamed last, so that what broke off before is built again.
    let draft = folder.join("draft");
    let built = Command::new(go)
        .args(["build", "-mod=mod", "-o"])
        .arg(&draft)
        .arg(format!("{MODULE}/cmd/benthos"))
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !built.status.success() {
        let said = String::from_utf8_lossy(&built.stderr);
        return Err(said.lines().last().unwrap_or("go build failed").to_owned());
    }
    std::fs::rename(draft, &binary).map_err(|error| error.to_string())?;
    Ok(binary)
}

/// Go on PATH, or where its own installer puts it.
fn go() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("go"))
        .chain([PathBuf::from("/usr/local/go/bin/go")])
        .find(|go| go.is_file())
}

/// Its configuration, in a folder: from a port to the sink, what is of the type that the rule asks
/// for.
pub fn configure(folder: &Path, port: u16, sink: &str, connections: u32) -> PathBuf {
    let headers: String = ["Specversion", "Id", "Source", "Type"]
        .map(|name| format!("      Ce-{name}: ${{! meta(\"Ce-{name}\") }}\n"))
        .concat();
    let text = format!(
        "http: {{ enabled: false }}\nlogger: {{ level: ERROR }}\nmetrics: {{ none: {{}} }}\n\
         input:\n  http_server: {{ address: \"127.0.0.1:{port}\", path: /events }}\n\
         pipeline:\n  processors:\n    - mapping: 'root = if meta(\"Ce-Type\") != \"order.paid\" {{ deleted() }}'\n\
         output:\n  http_client:\n    url: \"{sink}\"\n    verb: POST\n    max_in_flight: {connections}\n    \
         headers:\n      Content-Type: application/json\n{headers}"
    );
    let file = folder.join("benthos.yaml");
    std::fs::write(&file, text).expect("a file can be written");
    file
}
