//! Runs the simulator over seeds.
use standin_tools::sim::{Nobody, Plan, run};

fn main() {
    let args: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (start, count) = (args[0], args[1]);
    let tell = args.len() > 2;
    let mut bad = 0;
    let mut tally = standin_tools::sim::Tally::default();
    let mut sim = 0;
    for seed in start..start + count {
        let plan = Plan::draw(seed);
        let t = std::time::Instant::now();
        let outcome = run(&plan, Box::new(Nobody), tell);
        tally.join(&outcome.tally);
        sim += outcome.simulated;
        let ms = t.elapsed().as_millis();
        if ms > 1000 {
            println!("slow seed {seed}: {ms} ms, sim {} s", outcome.simulated / 1_000_000_000);
        }
        if tell {
            println!("{plan:#?}");
            for (at, line) in &outcome.story {
                println!("{:>12.6} {line}", *at as f64 / 1e9);
            }
            println!("{}", outcome.portrait);
        }
        if let Some(v) = outcome.violation {
            bad += 1;
            println!("seed {seed}: {} at {:.6}: {}", v.rule, v.at as f64 / 1e9, v.text);
        }
    }
    println!("{bad} bad of {count}, sim {} s", sim / 1_000_000_000);
    for (k, v) in tally.iter() {
        println!("  {k}: {v}");
    }
}
