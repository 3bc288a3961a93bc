use openraft::storage::{RaftLogStorageExt, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{CommittedLeaderId, EntryPayload};

use super::super::machine::StateMachine;
use super::super::runtime;
use super::*;
use crate::image_store::ImageStore;
use crate::testing::disk::MemoryDisk;
use crate::testing::world::{Process, env};

struct Stores;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, ()> for Stores {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError<u64>> {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        let log = LogStore::open(disk.clone()).await.unwrap();
        let store = Arc::new(ImageStore::new());
        let machine = StateMachine::open(disk, store).await.unwrap();
        Ok(((), log, machine))
    }
}

#[test]
fn openrafts_own_suite_passes() {
    let env = env(
        0,
        &MemoryDisk::default(),
        &Arc::new(Process::default()),
        None,
    );
    runtime::OUTSIDE.get_or_init(|| (env.clone(), env.entropy));
    Suite::test_all(Stores).unwrap();
}

fn entry(term: u64, index: u64) -> Entry {
    Entry {
        log_id: LogId::new(CommittedLeaderId::new(term, 1), index),
        payload: EntryPayload::Blank,
    }
}

fn run<F: Future>(test: impl FnOnce(MemoryDisk) -> F) -> F::Output {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    tokio.block_on(async {
        let disk = MemoryDisk::default();
        let env = env(1, &disk, &Arc::new(Process::default()), None);
        runtime::scope(&env, &env.entropy, test(disk)).await
    })
}

async fn open(disk: &MemoryDisk) -> io::Result<LogStore> {
    LogStore::open(Arc::new(disk.clone())).await
}

async fn indices(log: &mut LogStore) -> Vec<(u64, u64)> {
    let entries = log.try_get_log_entries(..).await.unwrap();
    entries
        .iter()
        .map(|e| (e.log_id.leader_id.term, e.log_id.index))
        .collect()
}

#[test]
fn what_was_acknowledged_survives_power_loss() {
    run(|disk| async move {
        let mut log = open(&disk).await.unwrap();
        log.blocking_append((0..5).map(|i| entry(1, i)))
            .await
            .unwrap();
        log.save_vote(&Vote::new(2, 1)).await.unwrap();
        disk.crash();
        let mut log = open(&disk).await.unwrap();
        assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(2, 1)));
        log.save_vote(&Vote::new(3, 2)).await.unwrap();
        log.truncate(entry(1, 3).log_id).await.unwrap();
        log.blocking_append([entry(3, 3)]).await.unwrap();
        log.purge(entry(1, 1).log_id).await.unwrap();
        log.blocking_append([entry(3, 4)]).await.unwrap();
        disk.crash();
        let mut log = open(&disk).await.unwrap();
        assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(3, 2)));
        assert_eq!(indices(&mut log).await, [(1, 2), (3, 3), (3, 4)]);
        let state = log.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(entry(1, 1).log_id));
        assert_eq!(state.last_log_id, Some(entry(3, 4).log_id));
    });
}

/// M23: a vote that is answered before it is on the disk (S-42).
#[cfg(feature = "mutants")]
#[test]
fn a_vote_that_is_not_synced_is_noticed() {
    use weir_base::mutant::{Mutant, plant};
    plant(Some(Mutant::M23));
    let found = std::panic::catch_unwind(what_was_acknowledged_survives_power_loss);
    plant(None);
    assert!(found.is_err(), "M23 survives");
}

#[test]
fn a_torn_tail_is_cut_and_the_log_goes_on() {
    run(|disk| async move {
        let mut log = open(&disk).await.unwrap();
        log.blocking_append([entry(1, 0)]).await.unwrap();
        log.blocking_append([entry(1, 1)]).await.unwrap();
        let name = path(1);
        disk.tamper(&name, |bytes| bytes.truncate(bytes.len() - 3));
        let mut log = open(&disk).await.unwrap();
        assert_eq!(indices(&mut log).await, [(1, 0)]);
        log.blocking_append([entry(2, 1)]).await.unwrap();
        disk.crash();
        let mut log = open(&disk).await.unwrap();
        assert_eq!(indices(&mut log).await, [(1, 0), (2, 1)]);
    });
}

#[test]
fn rot_below_the_durable_point_refuses_the_start() {
    run(|disk| async move {
        let mut log = open(&disk).await.unwrap();
        for index in 0..4 {
            log.blocking_append([entry(1, index)]).await.unwrap();
        }
        disk.tamper(&path(1), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        let error = open(&disk).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("new node id"), "{error}");
    });
}

#[test]
fn after_a_failed_sync_nothing_is_written() {
    run(|disk| async move {
        let mut log = open(&disk).await.unwrap();
        log.blocking_append([entry(1, 0)]).await.unwrap();
        disk.fail_syncs(true);
        assert!(log.blocking_append([entry(1, 1)]).await.is_err());
        assert!(log.save_committed(Some(entry(1, 0).log_id)).await.is_err());
        assert!(log.save_vote(&Vote::new(9, 9)).await.is_err());
    });
}

/// The next process on the same boot reads what the failed sync was to save. It may be part
/// of a majority: then it has to be on the disk.
#[test]
fn what_a_start_read_after_a_failed_sync_survives_power_loss() {
    run(|disk| async move {
        let mut log = open(&disk).await.unwrap();
        log.blocking_append([entry(1, 0)]).await.unwrap();
        disk.fail_syncs(true);
        assert!(log.blocking_append([entry(1, 1)]).await.is_err());
        disk.fail_syncs(false);
        let mut log = open(&disk).await.unwrap();
        assert_eq!(indices(&mut log).await, [(1, 0), (1, 1)]);
        disk.crash();
        let mut log = open(&disk).await.unwrap();
        assert_eq!(indices(&mut log).await, [(1, 0), (1, 1)]);
        log.blocking_append([entry(1, 2)]).await.unwrap();
    });
}

/// A process that ended between the renaming of a rewritten file and the sync of its name.
#[test]
fn a_rewritten_file_that_the_next_start_uses_keeps_its_name() {
    run(|disk| async move {
        let mut log = open(&disk).await.unwrap();
        log.blocking_append([entry(1, 0)]).await.unwrap();
        disk.lose_name_syncs(true);
        log.compact().await.unwrap();
        disk.lose_name_syncs(false);
        let mut log = open(&disk).await.unwrap();
        log.blocking_append([entry(1, 1)]).await.unwrap();
        disk.crash();
        let mut log = open(&disk).await.unwrap();
        assert_eq!(indices(&mut log).await, [(1, 0), (1, 1)]);
    });
}

#[test]
fn a_rewritten_file_holds_what_is_live_and_nothing_else() {
    run(|disk| async move {
        let mut log = open(&disk).await.unwrap();
        log.save_vote(&Vote::new(4, 1)).await.unwrap();
        log.blocking_append((0..600).map(|i| entry(1, i)))
            .await
            .unwrap();
        log.save_committed(Some(entry(1, 99).log_id)).await.unwrap();
        log.purge(entry(1, 49).log_id).await.unwrap();
        let before = disk.names();
        log.compact().await.unwrap();
        assert_ne!(disk.names(), before);
        assert_eq!(disk.names().len(), 1);
        disk.crash();
        let mut log = open(&disk).await.unwrap();
        assert_eq!(indices(&mut log).await.len(), 550);
        assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(4, 1)));
        assert_eq!(
            log.read_committed().await.unwrap(),
            Some(entry(1, 99).log_id)
        );
        log.blocking_append([entry(5, 600)]).await.unwrap();
        // A bit of the rewritten part rots.
        disk.tamper(&path(2), |bytes| bytes[100] ^= 1);
        assert!(open(&disk).await.is_err());
    });
}

#[test]
fn a_rewrite_cut_short_leaves_the_old_file() {
    run(|disk| async move {
        let mut log = open(&disk).await.unwrap();
        log.blocking_append([entry(1, 0)]).await.unwrap();
        let file = disk
            .open("metadata/log-0000000000000002.tmp", OpenMode::Create)
            .await
            .unwrap();
        file.write_at(0, vec![Bytes::from_static(b"half")])
            .await
            .unwrap();
        let mut log = open(&disk).await.unwrap();
        assert_eq!(indices(&mut log).await, [(1, 0)]);
        assert_eq!(disk.names(), [path(1)]);
    });
}

#[test]
fn a_damaged_snapshot_refuses_the_start() {
    run(|disk| async move {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let store = Arc::new(ImageStore::new());
        let mut machine = StateMachine::open(shared.clone(), store).await.unwrap();
        machine.apply([entry(1, 0), entry(1, 1)]).await.unwrap();
        let mut builder = machine.get_snapshot_builder().await;
        openraft::RaftSnapshotBuilder::build_snapshot(&mut builder)
            .await
            .unwrap();
        disk.crash();
        let reopened = Arc::new(ImageStore::new());
        let mut machine = StateMachine::open(shared.clone(), reopened.clone())
            .await
            .unwrap();
        assert_eq!(
            machine.applied_state().await.unwrap().0,
            Some(entry(1, 1).log_id)
        );
        assert_eq!(reopened.image().version, 1);
        let name = disk.names().pop().unwrap();
        disk.tamper(&name, |bytes| bytes[50] ^= 4);
        assert!(
            StateMachine::open(shared, Arc::new(ImageStore::new()))
                .await
                .is_err()
        );
    });
}
