use super::clock::{of_running, of_stopped};
use super::home::{judge_backup, judge_space, judge_syncs};
use super::machine::{core_dumps, open_files, udp_buffers};
use super::peer::{Expected, agrees, clocks};
use super::port::inodes;
use super::{Finding, Verdict};
use std::time::Duration;
use tombola_core::amount::{Amount, Asset, DAY_MS, Timestamp};
use tombola_core::claim::Head;
use tombola_core::hold::Fee;
use tombola_core::key::SecretKey;
use tombola_core::message::{EscrowInfo, Phase, Reference};

/// Whatever is not well says what to do.
fn is(finding: &Finding, verdict: Verdict) {
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    assert_eq!(finding.next.is_some(), verdict != Verdict::Ok, "{finding:?}");
}

#[test]
fn too_few_files_are_told_by_degrees() {
    is(&open_files(Some(127), None), Verdict::Failed);
    is(&open_files(Some(128), Some(4_096)), Verdict::Warning);
    is(&open_files(Some(1_024), Some(1_024)), Verdict::Ok);
    is(&open_files(None, None), Verdict::Ok);
}

/// Spec: C-07.
#[test]
fn an_escrows_clock_that_jumped_or_is_behind_its_ledger_is_a_failure() {
    let now = Timestamp(1_800_000_000_000);
    let node = |behind_ms: u64, jump: serde_json::Value| serde_json::json!({ "ledger_time": "2027-01-15 08:00:00", "clock_behind_ms": behind_ms, "clock_jump": jump });
    is(&of_running(&node(300_000, serde_json::Value::Null), now), Verdict::Ok);
    is(
        &of_running(&node(300_001, serde_json::Value::Null), now),
        Verdict::Failed,
    );
    let jump = serde_json::json!({ "wall": "2027-03-16 08:00:00", "expected": "2027-01-15 08:00:00" });
    let jumped = of_running(&node(0, jump), now);
    is(&jumped, Verdict::Failed);
    assert!(jumped.found.contains("2027-03-16 08:00:00") && jumped.found.contains("2027-01-15 08:00:00"));
    is(&of_stopped(now.plus_ms(300_000), now), Verdict::Ok);
    is(&of_stopped(now.plus_ms(300_001), now), Verdict::Failed);
    let away = of_stopped(now.minus_ms(60 * DAY_MS), now);
    is(&away, Verdict::Ok);
    assert!(
        away.found.contains("2027-01-15") && away.found.contains("2026-11-16"),
        "{away:?}"
    );
}

#[test]
fn core_dumps_that_may_be_written_are_a_failure() {
    is(&core_dumps(Some(0)), Verdict::Ok);
    is(&core_dumps(Some(1)), Verdict::Failed);
    is(&core_dumps(None), Verdict::Failed);
}

#[test]
fn small_udp_buffers_name_the_setting() {
    let sizes = |default: u64, max: u64| move |name: &str| Some(if name.ends_with("max") { max } else { default });
    is(&udp_buffers(sizes(2_097_152, 2_097_152)), Verdict::Ok);
    let small = udp_buffers(sizes(2_097_152, 212_992));
    is(&small, Verdict::Warning);
    assert!(small.next.unwrap().contains("net.core.rmem_max=2097152"));
    is(&udp_buffers(|_| None), Verdict::Warning);
}

#[test]
fn a_disk_that_is_nearly_full_or_slow_is_told_by_degrees() {
    let mib = 1_024 * 1_024;
    is(&judge_space(128 * mib - 1), Verdict::Failed);
    is(&judge_space(1_024 * mib - 1), Verdict::Warning);
    is(&judge_space(1_024 * mib), Verdict::Ok);
    let times = |ms: &[u64]| ms.iter().map(|ms| Duration::from_millis(*ms)).collect();
    is(&judge_syncs(times(&[1, 19, 900])), Verdict::Ok);
    is(&judge_syncs(times(&[1, 20, 21])), Verdict::Warning);
    is(&judge_syncs(times(&[1, 1_000, 1])), Verdict::Failed);
}

#[test]
fn old_backups_are_a_warning() {
    let now = Timestamp(10 * DAY_MS);
    is(&judge_backup(now, Timestamp(8 * DAY_MS), String::new()), Verdict::Ok);
    is(
        &judge_backup(now, Timestamp(8 * DAY_MS - 1), String::new()),
        Verdict::Warning,
    );
}

#[test]
fn clocks_are_compared_within_the_time_that_the_answer_took() {
    let asked = (Timestamp(100_000), Timestamp(101_000));
    is(&clocks(asked, Timestamp(100_500)), Verdict::Ok);
    is(&clocks(asked, Timestamp(98_001)), Verdict::Ok);
    is(&clocks(asked, Timestamp(98_000)), Verdict::Warning);
    is(&clocks(asked, Timestamp(103_000)), Verdict::Warning);
    is(&clocks(asked, Timestamp(131_000)), Verdict::Failed);
    is(&clocks(asked, Timestamp(70_000)), Verdict::Failed);
}

#[test]
fn an_escrow_of_another_asset_or_that_recovers_is_told() {
    let key = SecretKey::from_seed(&[1; 32]).account();
    let expected = Expected {
        escrow: tombola_net::Address::new(key, "127.0.0.1", 1),
        asset: Asset::USD,
        fee_max: Fee::default(),
    };
    let mut info = EscrowInfo {
        escrow: key,
        asset: Asset::USD,
        name: Reference::new("e").unwrap(),
        time: Timestamp(0),
        phase: Phase::Open,
        fee: Fee::default(),
        face_value_min: Amount(1),
        cap_min: Amount(1),
        writer: 0,
        height: 0,
        head: Head([0; 32]),
        payout_fee: Amount(0),
        payout_min: Amount(0),
    };
    is(&agrees(&expected, &info), Verdict::Ok);
    info.phase = Phase::Recovering;
    is(&agrees(&expected, &info), Verdict::Warning);
    info.asset = Asset::new("EUR", 9).unwrap();
    is(&agrees(&expected, &info), Verdict::Failed);
}

#[test]
fn the_owner_of_a_port_is_found_in_the_tables_of_the_kernel() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
         0: 0100007F:1CE8 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 4711 2 0 0\n\
         1: 0100007F:1CE9 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 4712 2 0 0\n";
    assert_eq!(inodes(table, 0x1CE8), ["4711"]);
    assert!(inodes(table, 1).is_empty());
}
