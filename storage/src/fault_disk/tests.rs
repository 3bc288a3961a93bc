use super::*;

fn disk(seed: u8) -> SimDisk {
    SimDisk::new(&Entropy::from_seed([seed; 32]))
}

async fn file(disk: &SimDisk, path: &str) -> Arc<dyn DiskFile> {
    disk.open(path, OpenMode::Create).await.unwrap()
}

async fn write(file: &Arc<dyn DiskFile>, at: u64, bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    file.write_at(at, vec![bytes]).await.unwrap();
}

#[tokio::test]
async fn what_was_synced_survives_and_the_rest_is_any_subset_of_sectors() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..20 {
        let disk = disk(seed);
        let before = file(&disk, "f").await;
        write(&before, 0, &[1; 8192]).await;
        before.sync_data().await.unwrap();
        disk.sync_directory("").await.unwrap();
        write(&before, 0, &[2; 8192]).await;
        disk.crash(Crash::PowerLoss);
        assert!(before.size().await.is_err(), "dead handle");
        let disk = disk.handle(None);
        let after = disk.open("f", OpenMode::Existing).await.unwrap();
        let bytes = after.read_at(0, 9000).await.unwrap();
        assert_eq!(bytes.len(), 8192);
        for sector in bytes.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]));
            kept += usize::from(sector[0] == 2);
            lost += usize::from(sector[0] == 1);
        }
    }
    assert!(kept > 50 && lost > 50, "{kept} kept, {lost} lost");
}

#[tokio::test]
async fn a_name_that_is_back_leads_to_its_file() {
    let mut back = 0;
    for seed in 0..40 {
        let disk = disk(seed);
        file(&disk, "f").await;
        disk.remove_file("f").await.unwrap();
        disk.crash(Crash::Process);
        disk.crash(Crash::PowerLoss);
        let disk = disk.handle(None);
        if let Ok(file) = disk.open("f", OpenMode::Existing).await {
            file.size().await.unwrap();
            back += 1;
        }
    }
    assert!((1..40).contains(&back), "{back}");
}

#[tokio::test]
async fn names_need_a_directory_sync() {
    let mut survived = 0;
    for seed in 0..40 {
        let disk = disk(seed);
        let synced = file(&disk, "synced").await;
        disk.sync_directory("").await.unwrap();
        let other = file(&disk, "other").await;
        for file in [synced, other] {
            write(&file, 0, b"x").await;
            file.sync_data().await.unwrap();
        }
        disk.crash(Crash::PowerLoss);
        let disk = disk.handle(None);
        assert!(disk.open("synced", OpenMode::Existing).await.is_ok());
        survived += usize::from(disk.open("other", OpenMode::Existing).await.is_ok());
    }
    assert!((1..40).contains(&survived), "{survived}");
}

#[tokio::test]
async fn a_failed_fsync_loses_what_was_dirty_and_then_lies() {
    let disk = disk(1);
    let before = file(&disk, "f").await;
    disk.sync_directory("").await.unwrap();
    write(&before, 0, b"dirty").await;
    disk.set_faults(SimFaults {
        sync_failure_odds: 1,
        ..SimFaults::default()
    });
    assert!(!disk.has_failed_sync(""));
    before.sync_data().await.unwrap_err();
    assert!(disk.has_failed_sync("") && !disk.has_failed_sync("elsewhere/"));
    disk.set_faults(SimFaults::default());
    before.sync_data().await.unwrap();
    assert_eq!(before.read_at(0, 9).await.unwrap()[..], *b"dirty");
    disk.crash(Crash::PowerLoss);
    assert!(!disk.has_failed_sync(""), "nobody is left who was told");
    let after = disk
        .handle(None)
        .open("f", OpenMode::Existing)
        .await
        .unwrap();
    assert!(after.read_at(0, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_full_disk_takes_nothing_and_recovers() {
    let disk = disk(1);
    disk.set_faults(SimFaults {
        capacity_bytes: Some(1000),
        ..SimFaults::default()
    });
    let one = file(&disk, "one").await;
    one.allocate(900).await.unwrap();
    let two = file(&disk, "two").await;
    let error = two.allocate(200).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(two.size().await.unwrap(), 0);
    one.truncate(10).await.unwrap();
    two.allocate(200).await.unwrap();
}

#[tokio::test]
async fn a_process_crash_keeps_everything() {
    let disk = disk(1);
    let boot = disk.boot_id();
    write(&file(&disk, "f").await, 0, b"kept").await;
    disk.crash(Crash::Process);
    let disk = disk.handle(None);
    let after = disk.open("f", OpenMode::Existing).await.unwrap();
    assert_eq!(after.read_at(0, 9).await.unwrap()[..], *b"kept");
    assert_eq!(disk.boot_id(), boot);
    disk.crash(Crash::PowerLoss);
    assert_ne!(disk.boot_id(), boot);
}

#[tokio::test]
async fn a_misdirected_write_lands_on_other_sectors_of_its_file() {
    let disk = disk(1);
    let file = file(&disk, "f").await;
    write(&file, 0, &[1; 8192]).await;
    disk.set_faults(SimFaults {
        misdirection_odds: 1,
        ..SimFaults::default()
    });
    write(&file, 4096, &[2; 512]).await;
    let bytes = file.read_at(0, 9000).await.unwrap();
    assert_eq!(bytes.len(), 8192);
    let hit: Vec<usize> = (0..16).filter(|s| bytes[s * 512] == 2).collect();
    assert!(hit.len() == 1 && hit != [8], "{hit:?}");
}

/// What is left of 8 KiB in each of two files that a lying disk said to be durable, after a
/// loss of power; `is_flushed`: a third one was synced in truth before that.
async fn left_of_lies(seed: u8, is_flushed: bool) -> usize {
    let disk = disk(seed);
    let files = [file(&disk, "a").await, file(&disk, "b").await];
    let third = file(&disk, "c").await;
    disk.sync_directory("").await.unwrap();
    let faults = |syncs_lie| SimFaults {
        syncs_lie,
        ..SimFaults::default()
    };
    disk.set_faults(faults(true));
    for file in &files {
        write(file, 0, &[1; 8192]).await;
        file.sync_data().await.unwrap();
    }
    disk.set_faults(faults(false));
    // Not part of what anybody said to be durable.
    write(&files[1], 8192, &[1; 8192]).await;
    if is_flushed {
        third.sync_data().await.unwrap();
    }
    disk.crash(Crash::PowerLoss);
    let left = |path| {
        disk.content(path)
            .unwrap()
            .iter()
            .take(8192)
            .filter(|b| **b == 1)
            .count()
    };
    left("a") + left("b")
}

#[tokio::test]
async fn what_a_disk_lied_about_is_lost_unless_it_syncs_in_truth_first() {
    let mut lost = 0;
    for seed in 0..20 {
        lost += 2 * 8192 - left_of_lies(seed, false).await;
        assert_eq!(left_of_lies(seed, true).await, 2 * 8192, "seed {seed}");
    }
    assert!(lost > 8192, "{lost}");
}

#[tokio::test]
async fn a_replaced_disk_keeps_nothing() {
    let disk = disk(1);
    let before = file(&disk, "f").await;
    disk.sync_directory("").await.unwrap();
    write(&before, 0, b"kept?").await;
    before.sync_data().await.unwrap();
    disk.wipe();
    let disk = disk.handle(None);
    assert_eq!(disk.files(), Vec::<String>::new());
    assert!(before.size().await.is_err(), "dead handle");
}
