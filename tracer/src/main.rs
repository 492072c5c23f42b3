use tracer::{kernel::Facts, probe::{registry, plan, attach::*}};
fn main() {
    let t = std::time::Instant::now();
    let facts = Facts::gather(&registry::questions()).unwrap();
    eprintln!("facts {:?}", t.elapsed());
    println!("{}", serde_json::to_string_pretty(&facts).unwrap());
    let t = std::time::Instant::now();
    let mut loader = Loader::load(&facts, Sizes::new(100,&facts), 0).unwrap();
    eprintln!("load {:?}", t.elapsed());
    for p in plan::plan(&facts, &plan::Wishes{force: vec![], per_page: true}) {
        let t = std::time::Instant::now();
        let o = loader.examine(&p);
        println!("{} {:?}\n", o.line(), t.elapsed());
        for a in o.attempts { println!("   {} {} {} {:?}", a.alternative.kind, a.alternative.target(), a.usable, a.why); }
    }
}
