//! What the linker is told.

#[expect(clippy::disallowed_methods, reason = "it speaks to cargo, and is none of the program")]
fn main() {
    // `hupwrap_entry` of src/main.rs is the first instruction of the program.
    println!("cargo:rustc-link-arg-bin=hupwrap=-Wl,-e,hupwrap_entry");
    // The unwinder, which panic=abort never calls, comes as a part of the program rather than as libgcc_s: loading that
    // is a tenth of the start.
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
    println!("cargo:rerun-if-changed=src/build.rs");
}
