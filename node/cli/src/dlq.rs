//! `weir dlq`: dead letters, and the replays that move them back.
//!
//! A replay is a job of the broker's: it goes on when this command ends, and when leaders
//! change. What is printed meanwhile goes to stderr, the outcome to stdout.

mod place;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use ureq::http::Method;
use weir_api::console::{
    BeginReplay, ChangeReplay, DeadLettersView, Done, LettersWanted, RecordView, ReplayLine,
    TopicLine, TopicView,
};

use crate::client::{Client, segment};
use crate::queue::{of_all, point_in_time};
use crate::table::{Table, or_dash};
use crate::topic::print_done;
use crate::{Session, time};

use place::Place;

/// Pause between two looks at a replay that is waited for.
const LOOK: Duration = Duration::from_millis(500);
/// Looks in a row that may fail: its leader may just have died.
const BLIND_MAX: u32 = 60;

/// For `weir dlq`.
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// List the dead-letter topics and how much they hold
    List,
    /// Show dead letters of a group
    Show {
        /// Whose letters.
        #[command(flatten)]
        of: LettersOf,
        /// First offset
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Most letters
        #[arg(long, default_value_t = 20)]
        limit: u64,
    },
    /// Move dead letters of a group back where they came from, for that group alone
    Replay(ReplayArgs),
    /// Show replays, those that ended included, with who did what to them
    Replays(LettersOf),
    /// Hold a replay
    Pause(OneReplay),
    /// Let a replay go on
    Resume(OneReplay),
    /// End a replay; what it moved stays moved
    Cancel(OneReplay),
    /// Remove all dead letters of a group
    Purge {
        /// Whose letters.
        #[command(flatten)]
        of: LettersOf,
        /// They are gone for good
        #[arg(long, required = true)]
        yes: bool,
    },
}

/// Whose letters, and where they lie.
#[derive(Debug, Args)]
pub struct LettersOf {
    /// The group
    pub group: String,
    /// Where its letters lie, if not where its settings say
    #[arg(long, value_name = "TOPIC[:PARTITION]")]
    pub letters: Option<String>,
}

/// For `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Whose letters.
    #[command(flatten)]
    pub of: LettersOf,
    /// Only letters that died at this time or later, such as 2026-11-21T16:00:00Z
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    pub since: Option<i64>,
    /// Only letters that died before this time
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    pub until: Option<i64>,
    /// Only letters with this cause: nack, rejected, lease-timeout or disconnected
    #[arg(long)]
    pub cause: Option<String>,
    /// Only letters with this key
    #[arg(long)]
    pub key: Option<String>,
    /// Only letters with this tag
    #[arg(long)]
    pub tag: Option<String>,
    /// Letters a second; as fast as they are taken without it
    #[arg(long, value_name = "LETTERS")]
    pub rate: Option<u32>,
    /// Only count what would be moved
    #[arg(long)]
    pub dry_run: bool,
    /// Do not wait for its end
    #[arg(long)]
    pub detach: bool,
    /// The partition of the dead-letter topic
    #[arg(long)]
    pub partition: Option<u32>,
    /// Who asks, for the audit
    #[arg(long, env = "USER", default_value = "")]
    pub by: String,
}

/// Names a replay.
#[derive(Debug, Args)]
pub struct OneReplay {
    /// Whose letters.
    #[command(flatten)]
    pub of: LettersOf,
    /// The replay, from `weir dlq replays`
    pub replay: u64,
    /// The partition of the dead-letter topic
    #[arg(long)]
    pub partition: Option<u32>,
    /// Who asks, for the audit
    #[arg(long, env = "USER", default_value = "")]
    pub by: String,
}

pub(crate) fn run(command: &DlqCommand, session: &mut Session<'_>) -> Result<()> {
    match command {
        DlqCommand::List => list(session),
        DlqCommand::Show { of, from, limit } => {
            let place = Place::of(&session.client, of)?;
            let (path, partition) = (place.path(), place.partition.unwrap_or(0));
            let mut path = format!("{path}/letters/{partition}/{from}?limit={limit}");
            if let Some(group) = &place.among {
                path.push_str(&format!("&group={}", segment(group)));
            }
            let letters: Vec<RecordView> = session.client.get(&path)?;
            session.show(&letters, |letters, out| print_letters(letters, out))
        }
        DlqCommand::Replay(args) => replay(args, session),
        DlqCommand::Replays(of) => {
            let place = Place::of(&session.client, of)?;
            let replays = replays(&session.client, &place)?;
            session.show(&replays, |replays, out| print_replays(replays, out))
        }
        DlqCommand::Pause(one) => change(one, "pause", session),
        DlqCommand::Resume(one) => change(one, "resume", session),
        DlqCommand::Cancel(one) => change(one, "cancel", session),
        DlqCommand::Purge { of, yes: _ } => purge(of, session),
    }
}

/// A dead-letter topic.
#[derive(Debug, Serialize)]
struct DeadLine {
    /// The group, or all whose settings name the topic.
    group: String,
    topic: String,
    /// `None` where its leaders cannot all be asked.
    letters: Option<u64>,
    on_the_way: u64,
    /// Replays that are not over.
    replays: usize,
}

fn is_open(replay: &ReplayLine) -> bool {
    replay.state == "running" || replay.state == "paused"
}

fn list(session: &mut Session<'_>) -> Result<()> {
    let topics: Vec<TopicLine> = session.client.get("/v1/topics")?;
    let said = place::said(&session.client)?;
    let mut lines = Vec::new();
    for topic in topics {
        let users = said.get(&topic.name);
        let by_name = topic.name.strip_prefix("dlq.");
        let (group, partitions) = match (users, by_name) {
            (Some(users), _) => (users.groups(), Some(users.partitions())),
            (None, Some(group)) => (group.to_owned(), None),
            (None, None) => continue,
        };
        // A topic that is for dead letters holds nothing else.
        let partitions = partitions.filter(|_| by_name.is_none());
        let path = format!("/v1/dlq/{}", segment(&topic.name));
        let mut views: Vec<DeadLettersView> = of_all(&session.client, &path)?;
        let all = partitions.as_ref().map_or(topic.partitions, BTreeSet::len);
        views.retain(|view| {
            let wanted = partitions.as_ref();
            wanted.is_none_or(|wanted| wanted.contains(&view.partition))
        });
        let letters = views.iter().map(|view| view.letters).sum();
        let replays = views.iter().flat_map(|view| &view.replays);
        lines.push(DeadLine {
            group,
            topic: topic.name.clone(),
            letters: (views.len() == all).then_some(letters),
            on_the_way: views.iter().map(|view| view.on_the_way).sum(),
            replays: replays.filter(|replay| is_open(replay)).count(),
        });
    }
    session.show(&lines, |lines, out| {
        let mut table = Table::new(&["GROUP", "TOPIC", "LETTERS", "ON-THE-WAY", "REPLAYS"]);
        for line in lines {
            table.row(vec![
                line.group.clone(),
                line.topic.clone(),
                or_dash(line.letters),
                line.on_the_way.to_string(),
                line.replays.to_string(),
            ]);
        }
        table.print(out)
    })
}

fn print_letters(letters: &[RecordView], out: &mut dyn Write) -> io::Result<()> {
    for letter in letters {
        let at = time::show(letter.at);
        writeln!(
            out,
            "offset {} at {at}, {} bytes",
            letter.offset, letter.bytes
        )?;
        for (name, value) in &letter.headers {
            writeln!(out, "  {name}: {value}")?;
        }
        writeln!(out, "  {}", letter.value)?;
    }
    Ok(())
}

fn replays(client: &Client, place: &Place) -> Result<Vec<ReplayLine>> {
    let views: Vec<DeadLettersView> = of_all(client, &place.path())?;
    let views = views.into_iter();
    let here = views.filter(|view| place.partition.is_none_or(|at| at == view.partition));
    let mut replays: Vec<ReplayLine> = here.flat_map(|view| view.replays).collect();
    // Those of other groups' letters are theirs.
    let is_ours = |of: &String| place.among.as_ref().is_none_or(|group| group == of);
    replays.retain(|replay| replay.filter.group.as_ref().is_none_or(is_ours));
    replays.sort();
    Ok(replays)
}

fn print_replays(replays: &[ReplayLine], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&[
        "REPLAY",
        "PARTITION",
        "STATE",
        "BEGUN",
        "BY",
        "AT",
        "OF",
        "MOVED",
        "PASSED-OVER",
        "HOMELESS",
    ]);
    for replay in replays {
        let dry = if replay.dry_run { " (dry)" } else { "" };
        let first = replay.audit.first();
        table.row(vec![
            replay.replay.to_string(),
            replay.partition.to_string(),
            format!("{}{dry}", replay.state),
            or_dash(first.map(|step| time::show(step.at))),
            or_dash(first.map(|step| step.by.clone())),
            (replay.position - replay.begin).to_string(),
            (replay.end - replay.begin).to_string(),
            replay.moved.to_string(),
            replay.passed_over.to_string(),
            replay.homeless.to_string(),
        ]);
    }
    table.print(out)?;
    for replay in replays {
        for step in replay.audit.iter().skip(1) {
            let by = if step.by.is_empty() {
                "by itself".to_owned()
            } else {
                format!("by {}", step.by)
            };
            let (number, at) = (replay.replay, time::show(step.at));
            let (state, moved) = (&step.state, step.moved);
            writeln!(
                out,
                "replay {number} {state} {by} at {at}, {moved} moved by then"
            )?;
        }
    }
    Ok(())
}

fn replay(args: &ReplayArgs, session: &mut Session<'_>) -> Result<()> {
    let place = Place::of(&session.client, &args.of)?;
    let wish = BeginReplay {
        partition: args.partition.or(place.partition).unwrap_or(0),
        filter: LettersWanted {
            since: args.since,
            until: args.until,
            cause: args.cause.clone(),
            key: args.key.clone(),
            tag: args.tag.clone(),
            group: place.among.clone(),
        },
        rate: args.rate,
        dry_run: args.dry_run,
        by: args.by.clone(),
    };
    let path = format!("{}/replays", place.path());
    let begun: ReplayLine = session.client.send(Method::POST, &path, Some(&wish))?;
    let ended = if args.detach {
        begun
    } else {
        follow(&session.client, &place, &args.of.group, begun)?
    };
    session.show(&ended, |replay, out| {
        print_replays(std::slice::from_ref(replay), out)
    })
}

/// Waits until a replay is over and what it moved is there; tells how far it is.
fn follow(client: &Client, place: &Place, group: &str, begun: ReplayLine) -> Result<ReplayLine> {
    let path = place.path();
    let (mut last, mut blind) = (begun, 0);
    loop {
        let views: Result<Vec<DeadLettersView>> = of_all(client, &path);
        let views = views.unwrap_or_default();
        let view = views.iter().find(|view| view.partition == last.partition);
        let found = view.and_then(|view| {
            let mut replays = view.replays.iter();
            Some((view.on_the_way, replays.find(|r| r.replay == last.replay)?))
        });
        match found {
            Some((on_the_way, replay)) => {
                blind = 0;
                last = replay.clone();
                let (done, of) = (last.position - last.begin, last.end - last.begin);
                Session::warn(&format!(
                    "{} at {done} of {of}: {} moved, {on_the_way} on their way",
                    last.state, last.moved
                ));
                if !is_open(&last) && on_the_way == 0 {
                    return Ok(last);
                }
            }
            None => blind += 1,
        }
        if blind > BLIND_MAX {
            bail!(
                "replay {} goes on, but nobody can be asked about it; try `weir dlq replays {group}`",
                last.replay
            );
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an operator's command is a process of its own, and in no simulation"
)]
fn pause() {
    std::thread::sleep(LOOK);
}

fn change(one: &OneReplay, word: &str, session: &mut Session<'_>) -> Result<()> {
    let place = Place::of(&session.client, &one.of)?;
    let partition = one.partition.or(place.partition).unwrap_or(0);
    let path = format!("{}/replays/{partition}/{}/{word}", place.path(), one.replay);
    let wish = ChangeReplay { by: one.by.clone() };
    let changed: ReplayLine = session.client.send(Method::POST, &path, Some(&wish))?;
    session.show(&changed, |replay, out| {
        print_replays(std::slice::from_ref(replay), out)
    })
}

fn purge(of: &LettersOf, session: &mut Session<'_>) -> Result<()> {
    let place = Place::of(&session.client, of)?;
    let topic = segment(&place.topic);
    let view: TopicView = session.client.get(&format!("/v1/topics/{topic}"))?;
    let wanted = place.partition.unwrap_or(0);
    let mut partitions = view.partitions.iter();
    let leader = partitions.find(|one| one.partition == wanted);
    let leader = leader.and_then(|one| one.leader);
    let cluster = session.client.cluster()?;
    let node = cluster.nodes.iter().find(|node| Some(node.id) == leader);
    let Some(admin) = node.and_then(|node| node.endpoints.get("admin")) else {
        bail!(
            "nobody leads {}-{wanted} just now; see `weir cluster status`",
            place.topic
        );
    };
    let leader = Client::new(vec![admin.clone()]);
    let mut path = format!("/v1/queues/{topic}/purge");
    if let Some(group) = &place.among {
        path.push_str(&format!("?partition={wanted}&group={}", segment(group)));
    }
    let done: Done = leader.send(Method::POST, &path, None::<&()>)?;
    session.show(&done, print_done)
}
