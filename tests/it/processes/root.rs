//! Nodes of users of their own, as systemd runs them, and root, who operates them.

use tombola_tests::process::{Node, Signal, Town, atoms, ok, run, text};

/// `nobody`, by most.
const USER: u32 = 65_534;

#[test]
fn root_operates_nodes_of_another_user() {
    let town = Town::new();
    ok(&[
        "escrow",
        "init",
        "--home",
        &town.arg("escrow"),
        "--listen",
        "127.0.0.1:0",
    ]);
    let Some(escrow) = Node::start_as(USER, &town, "escrow", &["escrow", "run"]) else {
        return;
    };
    let (home, files) = (town.arg("payee"), town.arg("files"));
    std::fs::create_dir(town.path("files")).unwrap();
    let init = [
        "payee",
        "init",
        "--home",
        &home,
        "--listen",
        "127.0.0.1:0",
        "--files",
        &files,
    ];
    ok(&[&init[..], &["--escrow", escrow.address()]].concat());
    let payee = Node::start_as(USER, &town, "payee", &["payee", "run"]).unwrap();

    assert_eq!(town.ask("escrow", "status", "escrow")["node"]["running"], true);
    assert_eq!(town.ask("payee", "status", "payee")["health"], "selling");
    // This uses the key beside the node.
    let bank = town.arg("escrow");
    let what = ["escrow", "deposit", payee.address(), "1", "--reference", "one"];
    ok(&[&what[..], &["--home", &bank]].concat());
    let balance = town.ask("payee", "balance", "payee");
    assert_eq!(atoms(&balance, "balance"), 1_000_000_000);
    for role in ["escrow", "payee"] {
        let found = ok(&["doctor", role, "--home", &town.arg(role)]);
        assert_eq!(found["failed"], 0, "{found}");
        assert!(finding(&found, "key").contains("of user 65534"), "{found}");
        assert!(finding(&found, "store").contains("the node runs"), "{found}");
    }

    // Nothing of a stopped one is made root's, and nothing is called broken.
    assert_eq!(payee.end(Signal::TERM), 0);
    let found = ok(&["doctor", "payee", "--home", &home]);
    assert!(finding(&found, "store").contains("another user's"), "{found}");
    let (code, refused) = run(&["payee", "redeem", "--home", &home]);
    assert_eq!((code, &refused["error"]["owner"]), (1, &USER.into()), "{refused}");
    assert!(text(&refused["error"], "next").contains("chown -R 0"), "{refused}");
    assert_eq!(escrow.end(Signal::TERM), 0);

    // A key that neither root nor the home's user made may be anybody's account.
    std::os::unix::fs::chown(town.path("payee").join("key.pem"), Some(USER - 1), None).unwrap();
    let (code, found) = run(&["doctor", "payee", "--home", &home]);
    assert!(code == 6 && finding(&found, "key").contains("failed"), "{found}");
    let (code, refused) = run(&["payee", "balance", "--home", &home]);
    assert_eq!((code, &refused["error"]["owner"]), (1, &(USER - 1).into()), "{refused}");
}

/// Everything that `doctor` says of one check.
fn finding(found: &serde_json::Value, check: &str) -> String {
    let all = found["findings"].as_array().unwrap();
    let of_check = all.iter().filter(|finding| finding["check"] == check);
    of_check.map(ToString::to_string).collect()
}
