use super::*;
use tombola_core::amount::Amount;
use tombola_core::odds::Threshold;

#[test]
fn a_rate_is_the_growth_over_the_last_minute_by_the_times_that_it_is_told() {
    let mut rate = Rate::default();
    assert_eq!(rate.per_second(5_000, 9), 0.0, "nothing was noted before");
    rate.note(0, 0);
    assert_eq!(rate.per_second(0, 7), 0.0, "no time has passed");
    assert_eq!(rate.per_second(10_000, 50), 5.0, "since the start");
    for second in 1..=200 {
        // Ten a second for 100 s, then nothing.
        rate.note(second * 1_000, 10 * second.min(100));
    }
    assert_eq!(rate.per_second(200_000, 1_000), 0.0);
    assert_eq!(
        rate.per_second(200_500, 1_001),
        0.016,
        "one in a little more than a minute"
    );
    let mut rate = Rate::default();
    for second in 0..=130 {
        rate.note(second * 1_000, 10 * second.min(100));
    }
    assert_eq!(rate.per_second(130_000, 1_000), 5.0, "300 in 60 s");
}

#[test]
fn a_rate_keeps_a_minute_of_samples_however_often_it_is_asked() {
    let mut rate = Rate::default();
    for at in 0..600_000 {
        rate.note(at, at);
    }
    assert!(format!("{rate:?}").matches('(').count() <= 123, "{rate:?}");
    assert_eq!(rate.per_second(600_000, 600_000), 1_000.0);
}

#[test]
fn luck_is_in_standard_deviations_and_sure_tickets_have_none() {
    let mut tally = LuckTally::default();
    assert_eq!(tally.luck().z, 0.0);
    tally.note(Amount(50), Threshold::ALWAYS, 10, 500);
    let luck = tally.luck();
    assert_eq!((luck.expected, luck.drawn, luck.z), (Amount(500), Amount(500), 0.0));
    // 10,000 tickets of 1 in 2: 5,000 are expected, with a deviation of 50.
    let even = Threshold(u64::MAX / 2);
    tally.note(Amount(1_000), even, 10_000, 5_100_000);
    let luck = tally.luck();
    assert_eq!((luck.expected, luck.drawn), (Amount(5_000_500), Amount(5_100_500)));
    assert!((luck.z - 2.0).abs() < 1e-9, "{luck:?}");
    tally.note(Amount(1_000), even, 0, 0);
    assert_eq!(tally.luck(), luck);
}

#[test]
fn the_text_has_types_units_totals_reasons_and_an_end() {
    let samples = vec![
        Sample::info("test", "The program", vec![("version", "1".to_owned())]),
        Sample::counter("test_paid", "Money", 7).of(Unit::Atoms),
        Sample::gauge("test_open", "Open", u64::MAX),
        Sample::measured("test_uptime", "Time", 1.5).of(Unit::Seconds),
        Sample::by_reason(
            "test_refused",
            "Refused",
            [("full".to_owned(), 1), ("slow".to_owned(), 2)],
        ),
        Sample::by_reason("test_none", "Nothing", []),
    ];
    let expected = "\
# HELP tombola_test The program
# TYPE tombola_test info
tombola_test_info{version=\"1\"} 1
# HELP tombola_test_paid_atoms Money
# TYPE tombola_test_paid_atoms counter
# UNIT tombola_test_paid_atoms atoms
tombola_test_paid_atoms_total 7
# HELP tombola_test_open Open
# TYPE tombola_test_open gauge
tombola_test_open 18446744073709551615
# HELP tombola_test_uptime_seconds Time
# TYPE tombola_test_uptime_seconds gauge
# UNIT tombola_test_uptime_seconds seconds
tombola_test_uptime_seconds 1.5
# HELP tombola_test_refused Refused
# TYPE tombola_test_refused counter
tombola_test_refused_total{reason=\"full\"} 1
tombola_test_refused_total{reason=\"slow\"} 2
# EOF
";
    assert_eq!(text(samples), expected);
}

async fn request(server: &MetricsServer, line: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_port_answers_one_path_and_says_when_it_has_no_numbers() {
    let listen = "127.0.0.1:0".parse().unwrap();
    let some = || async { Some(vec![Sample::gauge("test", "A number", 3)]) };
    let server = MetricsServer::bind(listen, some).await.unwrap();
    let answer = request(&server, "GET /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.contains(&format!("content-type: {CONTENT_TYPE}\r\n")),
        "{answer}"
    );
    assert!(answer.ends_with("tombola_test 3\n# EOF\n"), "{answer}");
    for (line, status) in [
        ("GET /", "404"),
        ("POST /metrics", "405"),
        ("GET /metrics?a=b", "200"),
        ("HEAD /metrics", "200"),
    ] {
        let answer = request(&server, line).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
    }
    let taken = MetricsServer::bind(server.address(), || async { None })
        .await
        .unwrap_err();
    assert_eq!(taken.kind, std::io::ErrorKind::AddrInUse);
    let none = MetricsServer::bind(listen, || async { None }).await.unwrap();
    assert!(request(&none, "GET /metrics").await.starts_with("HTTP/1.1 503 "));
}
