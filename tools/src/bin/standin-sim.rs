//! `standin-sim`: a world that follows from a seed, thousands of times, with everything failing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use standin_tools::sim::swarm::{Failure, Orders, Summary, swarm};
use standin_tools::sim::world::{SECOND, Told, Violation};
use standin_tools::sim::{Judge, Outcome, Plan, Tell, run, shrink};

/// Runs Standin's simulator: two engines, a LAN, a replication network, clients that check every
/// byte, and faults at any moment. Every run follows from its seed, bit for bit.
///
/// Exit status: 0 if all runs were clean, 1 if one broke a rule, 2 for a command or a plan that
/// cannot be understood.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Begin no more seeds after so many minutes.
    #[arg(long)]
    minutes: Option<f64>,
    /// Threads; as many as there are processors if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Tell the whole story of each run. For a few seeds, or a plan.
    #[arg(long)]
    timeline: bool,
    /// The same, with every packet that enters or leaves an engine.
    #[arg(long)]
    packets: bool,
    /// Run this plan, as written for a failing seed, and not seeds.
    #[arg(long, conflicts_with_all = ["seeds", "start", "minutes", "jobs"])]
    plan: Option<PathBuf>,
    /// Do not make a failing plan smaller.
    #[arg(long)]
    no_shrink: bool,
    /// Where plans of failing seeds are written.
    #[arg(long, default_value = ".")]
    save: PathBuf,
    /// The mistake that both engines make, to see how it is found out.
    #[cfg(feature = "defects")]
    #[arg(long)]
    defect: Option<standin::defects::Defect>,
    /// Failing seeds after which no more are begun.
    #[arg(long, default_value_t = 5)]
    failures_max: usize,
}

impl Cli {
    fn draw(&self, seed: u64) -> Plan {
        SEED.set(Some(seed));
        self.with_defect(Plan::draw(seed))
    }

    #[cfg(feature = "defects")]
    const fn with_defect(&self, mut plan: Plan) -> Plan {
        plan.pair.defect = self.defect;
        plan
    }

    /// What a command needs for the same mistake.
    #[cfg(feature = "defects")]
    fn mistaken(&self) -> String {
        self.defect.map(|defect| format!(" --defect {defect:?}")).unwrap_or_default()
    }

    #[cfg(not(feature = "defects"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    const fn mistaken(&self) -> &'static str {
        ""
    }

    #[cfg(not(feature = "defects"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    const fn with_defect(&self, plan: Plan) -> Plan {
        plan
    }
}

thread_local! {
    /// The seed that this thread is at, for a panic's message: a release build ends by it.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The end of a failing run's story that is told.
const LAST_EVENTS: usize = 60;
const LAST_PACKETS: usize = 12;

fn main() -> ExitCode {
    let cli = Cli::parse();
    name_seed_in_panics();
    let clean = match &cli.plan {
        Some(path) => match read_plan(path) {
            Ok(plan) => run_plan(&cli.with_defect(plan), &cli),
            Err(why) => {
                eprintln!("{}: {why}", path.display());
                return ExitCode::from(2);
            }
        },
        None if cli.timeline || cli.packets => (cli.start..cli.start.saturating_add(cli.seeds))
            .all(|seed| {
                println!("seed {seed}");
                run_plan(&cli.draw(seed), &cli)
            }),
        None => run_swarm(&cli),
    };
    ExitCode::from(u8::from(!clean))
}

fn name_seed_in_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        if let Some(seed) = SEED.get() {
            eprintln!("panic in seed {seed}: {}", replay(seed));
        }
    }));
}

fn replay(seed: u64) -> String {
    format!("standin-sim --start {seed} --seeds 1 --timeline")
}

fn read_plan(path: &Path) -> Result<Plan, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let plan: Plan = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    plan.check()?;
    Ok(plan)
}

/// One run, told. Returns whether it was clean.
fn run_plan(plan: &Plan, cli: &Cli) -> bool {
    SEED.set(Some(plan.seed));
    let outcome = run(plan, Judge::of(plan), if cli.packets { Tell::Packets } else { Tell::Story });
    tell(&outcome, cli.timeline || cli.packets);
    match &outcome.violation {
        Some(violation) => println!("violation: {}: {}", violation.rule, violation.text),
        None => println!("clean, {:.3} s simulated", seconds(outcome.simulated)),
    }
    println!("fingerprint {:016x}", outcome.fingerprint);
    outcome.violation.is_none()
}

/// All of the story, or its end: more of what happened than of packets.
fn tell(outcome: &Outcome, all: bool) {
    let (mut events, mut packets) = (0, 0);
    let near = |told: &&Told| {
        let (count, most) =
            if told.packet { (&mut packets, LAST_PACKETS) } else { (&mut events, LAST_EVENTS) };
        *count += 1;
        all || *count <= most
    };
    let mut lines: Vec<&Told> = outcome.story.iter().rev().filter(near).collect();
    lines.reverse();
    for Told { at, text, .. } in lines {
        println!("{:>12.6} {text}", seconds(*at));
    }
    let left = events.saturating_sub(LAST_EVENTS);
    if !all && left > 0 {
        println!("{left} earlier events are left out.");
    }
    println!("\nAt the end:\n{}", outcome.portrait);
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / SECOND as f64
}

fn run_swarm(cli: &Cli) -> bool {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    let orders = Orders {
        start: cli.start,
        seeds: cli.seeds,
        jobs: cli.jobs.unwrap_or(processors),
        failures_max: cli.failures_max.max(1),
    };
    let bar = progress(cli.seeds);
    let begun = now();
    let limit = cli.minutes.map(|minutes| Duration::from_secs_f64(minutes.clamp(0.0, 1e6) * 60.0));
    let summary = swarm(
        orders,
        Judge::of,
        &|| limit.is_some_and(|limit| begun.elapsed() >= limit),
        &|seed| cli.draw(seed),
        &|failure| {
            if let Some(Failure { seed, violation: Violation { rule, text, .. } }) = failure {
                bar.suspend(|| eprintln!("seed {seed}: {rule}: {text}"));
            }
            bar.inc(1);
        },
    );
    bar.finish_and_clear();
    sum_up(&summary, begun.elapsed());
    for failure in &summary.failures {
        report(failure, cli);
    }
    summary.failures.is_empty()
}

/// Only for people: how long it took. What happens in a world never looks at it.
#[expect(clippy::disallowed_methods, reason = "the swarm's own duration")]
fn now() -> Instant {
    Instant::now()
}

fn progress(seeds: u64) -> ProgressBar {
    let template = "{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(seeds).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn sum_up(summary: &Summary, took: Duration) {
    let Summary { seeds, simulated, tally, failures } = summary;
    let simulated = *simulated as f64 / SECOND as f64;
    println!(
        "{seeds} seeds, {} failed; {simulated:.0} s simulated in {:.1} s",
        failures.len(),
        took.as_secs_f64()
    );
    for (what, count) in tally.iter() {
        println!("{count:>12} {what}");
    }
    for (what, amount) in tally.peaks() {
        println!("{amount:>12} {what}, at most");
    }
    let mut rules = BTreeMap::<&str, u64>::new();
    for failure in failures {
        *rules.entry(&failure.violation.rule).or_default() += 1;
    }
    for (rule, count) in rules {
        println!("{count:>12} VIOLATIONS: {rule}");
    }
}

/// What a person needs to look into a failing seed.
fn report(failure: &Failure, cli: &Cli) {
    let Failure { seed, violation } = failure;
    println!("\nseed {seed}: {}: {}", violation.rule, violation.text);
    println!("replay: {}{}", replay(*seed), cli.mistaken());
    let plan = cli.draw(*seed);
    let plan = match cli.no_shrink {
        true => plan,
        false => {
            let bar = ProgressBar::new_spinner().with_message("making it smaller");
            let small = shrink(&plan, &violation.rule, Judge::of, &mut || bar.tick());
            bar.finish_and_clear();
            small
        }
    };
    let (clients, faults) = (plan.clients.len(), plan.faults.len());
    println!("It also happens in a smaller world, with {clients} clients and {faults} faults:");
    for fault in &plan.faults {
        println!("  {:>9.6} {}", fault.at_us as f64 / 1e6, fault.what);
    }
    println!("It ends like this:");
    let outcome = run(&plan, Judge::of(&plan), Tell::Packets);
    tell(&outcome, false);
    let path = cli.save.join(format!("sim-{seed}.json"));
    let text = serde_json::to_string_pretty(&plan).unwrap_or_default();
    match std::fs::write(&path, text) {
        Ok(()) => println!(
            "replay the smaller one: standin-sim --plan {} --timeline{}",
            path.display(),
            cli.mistaken()
        ),
        Err(error) => println!("the small plan was not written: {}: {error}", path.display()),
    }
}
