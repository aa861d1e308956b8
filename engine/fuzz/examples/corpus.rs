//! Between a directory of inputs, as fuzzers keep them, and a pack, as it is committed; and one
//! input through one target, without a fuzzer. A pack is bounded: a long finding is to be made short
//! first (`cargo fuzz tmin`).
//!
//! ```text
//! corpus unpack PACK DIRECTORY
//! corpus pack DIRECTORY PACK
//! corpus run TARGET FILE…              with RUST_LOG=debug: what the engine says meanwhile
//! ```

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use standin_fuzz::{TARGETS, pack};

fn main() -> ExitCode {
    env_logger::init();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["unpack", pack, directory] => unpack(pack.as_ref(), directory.as_ref()),
        ["pack", directory, pack] => gather(directory.as_ref(), pack.as_ref()),
        ["run", target, ref files @ ..] => run(target, files),
        _ => {
            Err(io::Error::other("unpack PACK DIRECTORY, pack DIRECTORY PACK, or run TARGET FILE…"))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corpus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn unpack(from: &Path, directory: &Path) -> io::Result<()> {
    let bytes = fs::read(from)?;
    let inputs = pack::unpack(&bytes).ok_or_else(|| io::Error::other("not a pack"))?;
    fs::create_dir_all(directory)?;
    for (index, input) in inputs.into_iter().enumerate() {
        fs::write(directory.join(format!("pack-{index:04}")), input)?;
    }
    Ok(())
}

fn gather(directory: &Path, to: &Path) -> io::Result<()> {
    let files = fs::read_dir(directory)?.map(|entry| fs::read(entry?.path()));
    let bytes = pack::pack(files.collect::<io::Result<_>>()?);
    fs::write(to, bytes)
}

fn run(name: &str, files: &[&str]) -> io::Result<()> {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = target.ok_or_else(|| io::Error::other("no such target"))?;
    for file in files {
        target(&fs::read(file)?);
        println!("{file}: handled");
    }
    Ok(())
}
