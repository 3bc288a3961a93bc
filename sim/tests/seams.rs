//! The seams as a node sees them: who refuses and who is silent, what time it is, what
//! is left on the disk, and what a panic does.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_base::{Env, NodeId, OpenMode};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::{Trace, sim_now};

const SERVER: NodeId = NodeId(1);
const CLIENT: NodeId = NodeId(2);
const PORT: u16 = 9092;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How an attempt to connect ended, and when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Echoed,
    Refused,
    Silent,
}

async fn serve(env: Env) -> anyhow::Result<()> {
    let listener = env.net.listen((ip(SERVER), PORT).into()).await?;
    assert_eq!(listener.local_address()?, (ip(SERVER), PORT).into());
    loop {
        let (mut stream, from) = listener.accept().await?;
        assert_eq!(from.ip(), ip(CLIENT));
        env.tasks.spawn("echo", async move {
            let mut bytes = [0; 4];
            if stream.read_exact(&mut bytes).await.is_ok() {
                stream.write_all(&bytes).await.unwrap_or_default();
            }
        });
    }
}

async fn attempt(env: &Env, port: u16) -> Attempt {
    let echo = async {
        let found = env.net.resolve("node-1", port).await?;
        let mut stream = env.net.connect(*found.first().unwrap()).await?;
        stream.write_all(b"weir").await?;
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await?;
        assert_eq!(&bytes, b"weir");
        Ok::<_, io::Error>(())
    };
    match env.timeout(millis(50), echo).await {
        Some(Ok(())) => Attempt::Echoed,
        Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Attempt::Refused,
        Some(Err(error)) => panic!("{error}"),
        None => Attempt::Silent,
    }
}

/// Attempts in the order made, with the port and the time of each.
type Log = Arc<Mutex<Vec<(Duration, u16, Attempt)>>>;

fn simulate() -> Vec<(Duration, u16, Attempt)> {
    let nodes = [SERVER, CLIENT];
    let cluster = Cluster::new(1, &nodes, Trace::new()).unwrap();
    let log = Log::default();
    let mut sim = Cluster::builder(1, millis(10_000)).build();
    let server = cluster.clone();
    sim.host(ip(SERVER), move || {
        let cluster = server.clone();
        async move { Ok(serve(cluster.boot(SERVER)?.env).await?) }
    });
    let (client, attempts) = (cluster.clone(), Arc::clone(&log));
    sim.host(ip(CLIENT), move || {
        let (cluster, log) = (client.clone(), Arc::clone(&attempts));
        async move {
            let env = cluster.boot(CLIENT)?.env;
            env.sleep(millis(10)).await;
            loop {
                for port in [PORT, PORT + 1] {
                    let begun = sim_now();
                    let ended = attempt(&env, port).await;
                    log.lock().unwrap().push((begun, port, ended));
                }
                env.sleep(millis(5)).await;
            }
        }
    });
    while sim.elapsed() < millis(5_000) {
        match sim.elapsed() {
            now if now == millis(1_000) => cluster.kill(&mut sim, SERVER).unwrap(),
            now if now == millis(2_000) => cluster.start(&mut sim, SERVER).unwrap(),
            now if now == millis(3_000) => sim.partition(ip(SERVER), ip(CLIENT)),
            now if now == millis(3_500) => sim.repair(ip(SERVER), ip(CLIENT)),
            now if now == millis(4_000) => cluster.power_off(&mut sim, SERVER).unwrap(),
            now if now == millis(4_500) => cluster.start(&mut sim, SERVER).unwrap(),
            _ => {}
        }
        sim.step().unwrap();
    }
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn only_a_machine_that_is_up_and_in_reach_refuses() {
    let log = on_fresh_thread(simulate);
    // Each phase, without attempts that straddle its borders.
    let phases = [
        (10, 940, Attempt::Echoed, Attempt::Refused),
        (1_000, 1_940, Attempt::Refused, Attempt::Refused),
        (2_010, 2_940, Attempt::Echoed, Attempt::Refused),
        (3_000, 3_440, Attempt::Silent, Attempt::Silent),
        (3_510, 3_940, Attempt::Echoed, Attempt::Refused),
        (4_000, 4_440, Attempt::Silent, Attempt::Silent),
        (4_510, 4_940, Attempt::Echoed, Attempt::Refused),
    ];
    for (from, to, listening, other) in phases {
        let within = |at: &Duration| (millis(from)..millis(to)).contains(at);
        let phase: Vec<_> = log.iter().filter(|(at, ..)| within(at)).collect();
        assert!(phase.len() > 4, "{from}: {phase:?}");
        for (at, port, ended) in phase {
            let expected = if *port == PORT { listening } else { other };
            assert_eq!(*ended, expected, "port {port} at {at:?}");
        }
    }
}

#[test]
fn clocks_start_with_the_process_drift_and_jump() {
    on_fresh_thread(|| {
        let cluster = Cluster::new(1, &[SERVER], Trace::new()).unwrap();
        let faults = cluster.clock_faults(SERVER).unwrap();
        faults.set_drift_ppm(10_000);
        let mut sim = Cluster::builder(1, millis(10_000)).build();
        let software = cluster.clone();
        let seen = Arc::new(Mutex::new(vec![]));
        let told = Arc::clone(&seen);
        sim.host(ip(SERVER), move || {
            let (cluster, told) = (software.clone(), Arc::clone(&told));
            async move {
                let env = cluster.boot(SERVER)?.env;
                let (begun, wall, at) = (env.clock.now(), env.clock.wall(), sim_now());
                assert_eq!(begun, weir_base::Monotonic(0));
                env.sleep(millis(1_010)).await;
                // One per cent fast: it counts 1,010 ms in a second.
                let passed = (env.clock.now() - begun, env.clock.wall().0 - wall.0);
                told.lock().unwrap().push((sim_now() - at, passed));
                std::future::pending().await
            }
        });
        while sim.elapsed() < millis(500) {
            sim.step().unwrap();
        }
        cluster.kill(&mut sim, SERVER).unwrap();
        cluster.start(&mut sim, SERVER).unwrap();
        while sim.elapsed() < millis(1_000) {
            sim.step().unwrap();
        }
        faults.set_wall_offset_millis(-3_600_000);
        while sim.elapsed() < millis(2_000) {
            sim.step().unwrap();
        }
        let seen = seen.lock().unwrap().clone();
        let expected = (millis(1_000), (millis(1_010), 1_010 - 3_600_000));
        assert_eq!(seen, [expected]);
    });
}

/// What a node finds on its disk at its start: its boot, and the bytes of two files.
async fn inspect_and_write(env: &Env) -> io::Result<(String, usize, usize)> {
    let mut found = vec![];
    for name in ["synced", "dirty"] {
        let file = env.disk.open(name, OpenMode::Create).await?;
        found.push(file.read_at(0, 1 << 20).await?.len());
        file.write_at(0, vec![vec![1; 64 * 1024].into()]).await?;
        env.disk.sync_directory("").await?;
        if name == "synced" {
            file.sync_data().await?;
        }
    }
    let [synced, dirty] = found.try_into().unwrap();
    Ok((env.disk.boot_id(), synced, dirty))
}

#[test]
fn a_disk_outlives_its_process_and_what_was_synced_a_power_loss() {
    on_fresh_thread(|| {
        let cluster = Cluster::new(1, &[SERVER, CLIENT], Trace::new()).unwrap();
        let mut sim = Cluster::builder(1, millis(10_000)).build();
        let found = Arc::new(Mutex::new(vec![]));
        for node in [SERVER, CLIENT] {
            let (cluster, found) = (cluster.clone(), Arc::clone(&found));
            sim.host(ip(node), move || {
                let (cluster, found) = (cluster.clone(), Arc::clone(&found));
                async move {
                    let host = cluster.boot(node)?;
                    if node == SERVER {
                        let now = inspect_and_write(&host.env).await?;
                        found.lock().unwrap().push(now);
                    }
                    std::future::pending().await
                }
            });
        }
        let step_to = |sim: &mut turmoil::Sim<'_>, to| {
            while sim.elapsed() < millis(to) {
                sim.step().unwrap();
            }
        };
        step_to(&mut sim, 100);
        cluster.kill(&mut sim, SERVER).unwrap();
        cluster.start(&mut sim, SERVER).unwrap();
        step_to(&mut sim, 200);
        cluster.power_off(&mut sim, SERVER).unwrap();
        step_to(&mut sim, 300);
        cluster.start(&mut sim, SERVER).unwrap();
        step_to(&mut sim, 400);
        let found = found.lock().unwrap().clone();
        let [first, killed, powered_off] = found.try_into().unwrap();
        const LEN: usize = 64 * 1024;
        assert_eq!((first.1, first.2), (0, 0));
        assert_eq!(killed, (first.0.clone(), LEN, LEN));
        assert_ne!(powered_off.0, first.0);
        assert_eq!(powered_off.1, LEN);
    });
}

#[test]
fn a_panic_in_a_task_ends_the_run_and_names_the_task() {
    on_fresh_thread(|| {
        let trace = Trace::with_text();
        let cluster = Cluster::new(1, &[SERVER], trace.clone()).unwrap();
        let mut sim = Cluster::builder(1, millis(10_000)).build();
        sim.host(ip(SERVER), move || {
            let cluster = cluster.clone();
            async move {
                let env = cluster.boot(SERVER)?.env;
                env.tasks.spawn("shaky", async { panic!("as planned") });
                std::future::pending().await
            }
        });
        let ran = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..10 {
                sim.step().unwrap();
            }
        }));
        assert!(ran.is_err());
        assert!(trace.text().contains("task shaky panicked"));
    });
}
