use super::*;
use crate::home::HomeLock;
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Node {
    home: Home,
    _lock: HomeLock,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

/// A node whose commands answer, count, fail, or answer too much.
fn node() -> Node {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::create(directory.path()).unwrap();
    let lock = home.lock().unwrap();
    let server = AdminServer::bind(&lock).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(carry_out, async {
        let _ = stopped.await;
    }));
    Node {
        home,
        _lock: lock,
        stop,
        serving,
        _directory: directory,
    }
}

async fn carry_out(request: Value, progress: Progress) -> Result<Value, AdminError> {
    match request["command"].as_str() {
        Some("echo") => Ok(request["text"].clone()),
        Some("count") => {
            for at in 0..request["to"].as_u64().unwrap() {
                progress.send(json!({ "at": at })).await;
            }
            Ok(json!({ "counted": true }))
        }
        Some("flood") => Ok(Value::String("x".repeat(LINE_BYTES_MAX))),
        _ => Err(AdminError::new("not_offered", "no such command").with("need", 7)),
    }
}

#[tokio::test]
async fn a_request_is_answered_with_its_progress_in_order() {
    let node = node();
    let mode = socket_path(&node.home).metadata().unwrap().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let echo = json!({ "command": "echo", "text": "hi" });
    assert_eq!(request(&node.home, &echo, |_| panic!()).await, Ok(json!("hi")));

    let mut seen = Vec::new();
    let count = json!({ "command": "count", "to": 100 });
    let counted = request(&node.home, &count, |progress| {
        seen.push(progress["at"].as_u64().unwrap())
    })
    .await;
    assert_eq!(counted, Ok(json!({ "counted": true })));
    assert_eq!(seen, (0..100).collect::<Vec<_>>());

    let refused = request(&node.home, &json!({ "command": "fly" }), |_| {}).await;
    let error = AdminError::new("not_offered", "no such command").with("need", 7);
    assert_eq!(refused, Err(RequestError::Failed(error)));
}

#[tokio::test]
async fn a_stopped_node_answers_what_it_began_and_is_then_no_node() {
    let node = node();
    // An idle connection does not keep a node from stopping.
    let _idle = UnixStream::connect(socket_path(&node.home)).await.unwrap();
    node.stop.send(()).unwrap();
    node.serving.await.unwrap();
    let none = request(&node.home, &json!({ "command": "echo" }), |_| {}).await;
    assert_eq!(none, Err(RequestError::NoNode));
    assert!(!socket_path(&node.home).exists());
}

#[tokio::test]
async fn the_socket_of_a_killed_node_is_no_node_and_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::create(directory.path()).unwrap();
    // Dropping a listener leaves its file behind, as a kill does.
    drop(std::os::unix::net::UnixListener::bind(socket_path(&home)).unwrap());
    assert!(socket_path(&home).exists());
    let none = request(&home, &json!({ "command": "echo" }), |_| {}).await;
    assert_eq!(none, Err(RequestError::NoNode));
    let lock = home.lock().unwrap();
    let server = AdminServer::bind(&lock).unwrap();
    drop(server);
    assert!(!socket_path(&home).exists());
}

#[tokio::test]
async fn lines_over_the_limit_and_garbage_are_typed_errors() {
    let node = node();
    let code = |outcome: Result<Value, RequestError>| match outcome {
        Err(RequestError::Failed(error)) => error.code,
        other => panic!("{other:?}"),
    };
    let flood = request(&node.home, &json!({ "command": "flood" }), |_| {}).await;
    assert_eq!(code(flood), "too_large");
    for garbage in [json!("echo"), json!({ "command": 7 }), json!(null)] {
        assert_eq!(code(request(&node.home, &garbage, |_| {}).await), "malformed");
    }
    let long = json!({ "command": "echo", "text": "x".repeat(LINE_BYTES_MAX) });
    let too_long = request(&node.home, &long, |_| {}).await;
    assert!(matches!(
        too_long,
        Err(RequestError::Io {
            kind: io::ErrorKind::FileTooLarge
        })
    ));

    let mut raw = UnixStream::connect(socket_path(&node.home)).await.unwrap();
    let mut stream = tokio::io::BufReader::new(&mut raw);
    stream.write_all(&vec![b'x'; LINE_BYTES_MAX]).await.unwrap();
    let line = read_line(&mut stream).await.unwrap().unwrap();
    let Ok(Answer::Error { error }) = serde_json::from_slice(&line) else {
        panic!("not an error line");
    };
    assert_eq!(error.code, "too_large");
}

#[tokio::test]
async fn a_command_goes_on_when_its_client_goes_away() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::create(directory.path()).unwrap();
    let lock = home.lock().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let (finished, mut finishes) = tokio::sync::mpsc::channel(1);
    let handler = move |_: Value, progress: Progress| {
        let finished = finished.clone();
        async move {
            // Ends only once the client is known to be gone.
            while !progress.is_closed() {
                progress.send(json!({})).await;
            }
            finished.send(()).await.unwrap();
            Ok(Value::Null)
        }
    };
    let serving = tokio::spawn(AdminServer::bind(&lock).unwrap().serve(handler, async {
        let _ = stopped.await;
    }));
    let mut client = UnixStream::connect(socket_path(&home)).await.unwrap();
    client.write_all(b"{\"command\":\"watch\"}\n").await.unwrap();
    let mut first = [0];
    client.read_exact(&mut first).await.unwrap();
    drop(client);
    assert_eq!(finishes.recv().await, Some(()));
    stop.send(()).unwrap();
    serving.await.unwrap();
}

/// The check of the peer's uid that the kernel reports: here the server takes itself for another user's.
#[tokio::test]
async fn another_user_is_refused_whatever_the_file_modes_say() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::create(directory.path().join("home")).unwrap();
    let lock = home.lock().unwrap();
    let mut server = AdminServer::bind(&lock).unwrap();
    // Root, too, would be let in by the second: the tests may be root's.
    server.users = server
        .users
        .map(|_| rustix::process::geteuid().as_raw().wrapping_add(1));
    let (stop, stopped) = oneshot::channel::<()>();
    let handler = |value, _| async move { Ok(value) };
    let serving = tokio::spawn(server.serve(handler, async {
        let _ = stopped.await;
    }));
    match request(&home, &json!({ "command": "echo" }), |_| {}).await {
        Err(RequestError::Failed(error)) => assert_eq!(error.code, "unauthorized"),
        other => panic!("{other:?}"),
    }
    stop.send(()).unwrap();
    serving.await.unwrap();
}

/// The tests' own user stands for root, so that this holds whoever runs them.
#[tokio::test]
async fn root_is_let_in_at_a_node_of_another_user() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::create(directory.path().join("home")).unwrap();
    let lock = home.lock().unwrap();
    let mut server = AdminServer::bind(&lock).unwrap();
    let own = rustix::process::geteuid().as_raw();
    assert_eq!(server.users, [own, 0]);
    server.users = [own.wrapping_add(1), own];
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(carry_out, async {
        let _ = stopped.await;
    }));
    let echo = json!({ "command": "echo", "text": "hi" });
    assert_eq!(request(&home, &echo, |_| panic!()).await, Ok(json!("hi")));
    stop.send(()).unwrap();
    serving.await.unwrap();
}
