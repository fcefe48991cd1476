//! Makes `hupwrap_entry` of src/main.rs the first instruction of the program.

fn main() {
    println!("cargo:rustc-link-arg-bin=hupwrap=-Wl,-e,hupwrap_entry");
    println!("cargo:rerun-if-changed=src/build.rs");
}
