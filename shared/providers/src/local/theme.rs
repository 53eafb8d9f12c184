//! What a prompt's words ask for.

use super::random::Random;

/// The light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    Dawn,
    Day,
    Golden,
    Dusk,
    Night,
}

/// The land.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terrain {
    Mountains,
    Lake,
    Forest,
    Sea,
    Desert,
    Snow,
    City,
    Meadow,
}

/// Things in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Motif {
    Lighthouse,
    Boat,
    House,
    Castle,
    Balloon,
    Birds,
    Cactus,
    Tree,
    Flowers,
    Moon,
    Stars,
    Aurora,
    Fog,
    Rain,
    Snowfall,
    Clouds,
    Clear,
}

/// What one word asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Time(Time),
    Terrain(Terrain),
    Motif(Motif),
    Tint(u32),
}

use Motif::{
    Aurora, Balloon, Birds, Boat, Cactus, Castle, Clear, Clouds, Flowers, Fog, House, Lighthouse, Moon,
};
use Motif::{Rain, Snowfall, Stars, Tree};
use Terrain::{City, Desert, Forest, Lake, Meadow, Mountains, Sea, Snow};
use Time::{Dawn, Day, Dusk, Golden, Night};

/// Words in English and in Turkish, the languages of the app's own texts. A word of five letters or more also stands for
/// its longer forms: `mountain` for `mountains`, `orman` for `ormanda`.
const WORDS: &[(&[&str], Wish)] = &[
    (&["dawn", "sunrise", "morning", "şafak", "sabah", "gündoğumu"], Wish::Time(Dawn)),
    (
        &[
            "day",
            "daylight",
            "noon",
            "sunny",
            "summer",
            "spring",
            "bright",
            "gündüz",
            "güneşli",
            "öğle",
            "yaz",
        ],
        Wish::Time(Day),
    ),
    (
        &["golden", "afternoon", "autumn", "fall", "warm", "amber", "ikindi", "sonbahar", "altın"],
        Wish::Time(Golden),
    ),
    (
        &["dusk", "sunset", "evening", "twilight", "akşam", "günbatımı", "alacakaranlık", "batımı"],
        Wish::Time(Dusk),
    ),
    (&["night", "midnight", "dark", "nocturnal", "neon", "gece", "karanlık"], Wish::Time(Night)),
    (
        &[
            "mountain", "alps", "peak", "summit", "cliff", "valley", "canyon", "dağ", "dağlar", "vadi",
            "zirve",
        ],
        Wish::Terrain(Mountains),
    ),
    (&["lake", "river", "pond", "reflection", "göl", "nehir", "ırmak"], Wish::Terrain(Lake)),
    (&["forest", "woods", "woodland", "pine", "jungle", "orman", "çam"], Wish::Terrain(Forest)),
    (
        &[
            "sea", "ocean", "beach", "coast", "shore", "wave", "waves", "island", "harbor", "harbour",
            "deniz", "okyanus", "sahil", "kıyı", "plaj", "liman", "ada",
        ],
        Wish::Terrain(Sea),
    ),
    (&["desert", "dune", "dunes", "sahara", "sand", "camel", "çöl", "kumul", "deve"], Wish::Terrain(Desert)),
    (
        &[
            "snow", "snowy", "winter", "ice", "icy", "arctic", "glacier", "frozen", "kar", "karlı", "kış",
            "buzul",
        ],
        Wish::Terrain(Snow),
    ),
    (
        &[
            "city",
            "skyline",
            "urban",
            "street",
            "downtown",
            "skyscraper",
            "tower",
            "cyberpunk",
            "istanbul",
            "şehir",
            "kent",
            "sokak",
            "gökdelen",
        ],
        Wish::Terrain(City),
    ),
    (
        &[
            "meadow",
            "field",
            "hill",
            "hills",
            "grass",
            "farm",
            "garden",
            "village",
            "countryside",
            "çayır",
            "tarla",
            "tepe",
            "bahçe",
            "köy",
        ],
        Wish::Terrain(Meadow),
    ),
    (&["lighthouse", "fener", "feneri"], Wish::Motif(Lighthouse)),
    (
        &[
            "boat", "ship", "sail", "sailing", "sailboat", "yacht", "tekne", "gemi", "yelken", "yelkenli",
            "kayık",
        ],
        Wish::Motif(Boat),
    ),
    (&["house", "cabin", "cottage", "home", "hut", "barn", "kulübe", "ev", "evi"], Wish::Motif(House)),
    (&["castle", "palace", "fortress", "fairytale", "kale", "saray", "şato"], Wish::Motif(Castle)),
    (&["balloon", "balloons", "cappadocia", "kapadokya", "balon", "balonlar"], Wish::Motif(Balloon)),
    (&["bird", "birds", "seagull", "gull", "flock", "kuş", "kuşlar", "martı"], Wish::Motif(Birds)),
    (&["cactus", "cacti", "kaktüs"], Wish::Motif(Cactus)),
    (&["tree", "oak", "ağaç", "meşe"], Wish::Motif(Tree)),
    (
        &["flower", "flowers", "floral", "tulip", "poppy", "blossom", "lavender", "çiçek", "lale", "lavanta"],
        Wish::Motif(Flowers),
    ),
    (&["moon", "moonlight", "lunar", "moonlit", "ay", "mehtap", "dolunay"], Wish::Motif(Moon)),
    (
        &["star", "stars", "starry", "galaxy", "milky", "cosmic", "space", "yıldız", "galaksi", "uzay"],
        Wish::Motif(Stars),
    ),
    (&["aurora", "northern", "borealis", "kutup"], Wish::Motif(Aurora)),
    (&["fog", "foggy", "mist", "misty", "haze", "sis", "sisli", "puslu"], Wish::Motif(Fog)),
    (&["rain", "rainy", "storm", "stormy", "yağmur", "fırtına"], Wish::Motif(Rain)),
    (&["snowfall", "snowing", "blizzard", "snowflake", "tipi"], Wish::Motif(Snowfall)),
    (&["cloud", "clouds", "cloudy", "bulut", "bulutlu"], Wish::Motif(Clouds)),
    (&["clear", "cloudless", "minimal", "açık"], Wish::Motif(Clear)),
    (&["red", "crimson", "scarlet", "kırmızı", "kızıl"], Wish::Tint(0xd93a34)),
    (&["orange", "turuncu"], Wish::Tint(0xf08a3c)),
    (&["yellow", "sarı"], Wish::Tint(0xf4cf5a)),
    (&["green", "emerald", "yeşil", "zümrüt"], Wish::Tint(0x48b27a)),
    (&["teal", "turquoise", "cyan", "turkuaz"], Wish::Tint(0x2fa7a6)),
    (&["blue", "azure", "mavi"], Wish::Tint(0x3a78d0)),
    (&["purple", "violet", "magenta", "mor"], Wish::Tint(0x8b52c4)),
    (&["pink", "rose", "pembe"], Wish::Tint(0xf08fb6)),
];

/// What is to be drawn.
#[derive(Clone, Debug)]
pub(super) struct Theme {
    pub(super) time: Time,
    pub(super) terrain: Terrain,
    pub(super) motifs: Vec<Motif>,
    /// A colour that the prompt names, `0xRRGGBB`.
    tint: Option<u32>,
}

impl Theme {
    /// What the words ask for. What they leave open the prompt's hash decides for the land, and the seed for the light.
    pub(super) fn of(prompt: &str, seed: u64) -> Self {
        let wishes = wishes(prompt);
        let mut of_prompt = Random::new(prompt, 0);
        let mut of_picture = Random::new(prompt, seed);
        let motifs: Vec<Motif> = wishes
            .iter()
            .filter_map(|wish| if let Wish::Motif(motif) = wish { Some(*motif) } else { None })
            .collect();
        let terrains: Vec<Terrain> = wishes
            .iter()
            .filter_map(|wish| if let Wish::Terrain(land) = wish { Some(*land) } else { None })
            .collect();
        let any =
            of_prompt.pick(Mountains, &[Lake, Forest, Sea, Desert, Snow, City, Meadow, Lake, Mountains]);
        let terrain = terrain(&terrains).or_else(|| home(&motifs)).unwrap_or(any);
        let time =
            wishes.iter().find_map(|wish| if let Wish::Time(time) = wish { Some(*time) } else { None });
        let nightly = motifs.iter().any(|motif| matches!(motif, Stars | Aurora | Moon));
        let time = time.unwrap_or_else(|| {
            if nightly { Night } else { of_picture.pick(Dusk, &[Dawn, Day, Golden, Golden, Dusk, Night]) }
        });
        let tint =
            wishes.iter().find_map(|wish| if let Wish::Tint(tint) = wish { Some(*tint) } else { None });
        Self { time, terrain, motifs, tint }
    }

    /// A colour that the prompt names is its thing's where it names one that has a colour, else the sky's.
    pub(super) fn thing_tint(&self) -> Option<u32> {
        let colored = |motif: &Motif| matches!(motif, Flowers | Balloon | Boat);
        self.tint.filter(|_| self.motifs.iter().any(colored))
    }

    /// See [`Theme::thing_tint`].
    pub(super) fn sky_tint(&self) -> Option<u32> {
        if self.thing_tint().is_some() { None } else { self.tint }
    }

    pub(super) fn has(&self, motif: Motif) -> bool {
        self.motifs.contains(&motif)
    }
}

/// Of several lands the one that can hold the others: a lake among mountains is a lake.
fn terrain(wished: &[Terrain]) -> Option<Terrain> {
    [City, Sea, Desert, Snow, Lake, Forest, Mountains, Meadow]
        .into_iter()
        .find(|terrain| wished.contains(terrain))
}

/// Where a thing is at home when no land is named.
fn home(motifs: &[Motif]) -> Option<Terrain> {
    motifs.iter().find_map(|motif| match motif {
        Lighthouse | Boat => Some(Sea),
        House | Tree | Flowers => Some(Meadow),
        Castle | Balloon => Some(Mountains),
        Cactus => Some(Desert),
        Snowfall => Some(Snow),
        _ => None,
    })
}

fn wishes(prompt: &str) -> Vec<Wish> {
    // `İ` in lower case is an `i` with a dot of its own, which would cut the word in two.
    let prompt = prompt.to_lowercase().replace('\u{307}', "");
    let words = prompt.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.filter_map(wish).collect()
}

fn wish(word: &str) -> Option<Wish> {
    let stands_for = |known: &str| {
        word == known
            || known.chars().count() >= 5 && word.starts_with(known) && word.len() <= known.len() + 5
    };
    WORDS.iter().find(|(words, _)| words.iter().any(|known| stands_for(known))).map(|(_, wish)| *wish)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_light_land_and_things() {
        for (prompt, time, terrain, motif) in [
            ("A lighthouse at dusk", Dusk, Sea, Lighthouse),
            ("Deniz feneri, gece", Night, Sea, Lighthouse),
            ("starry night over a forest", Night, Forest, Stars),
            ("hot air balloons at sunrise", Dawn, Mountains, Balloon),
            ("kış sabahı, kulübede", Dawn, Snow, House),
            ("a boat on a mountain lake, golden hour", Golden, Lake, Boat),
        ] {
            let theme = Theme::of(prompt, 1);
            assert_eq!((theme.time, theme.terrain), (time, terrain), "{prompt}");
            assert!(theme.has(motif), "{prompt}: {theme:?}");
        }
        // `card` is not `car`, `starve` is not `star`, `seal` is not `sea`.
        assert!(wishes("card starve seal icebox").is_empty());
        assert_eq!(wishes("mountainside"), [Wish::Terrain(Mountains)]);
    }
}
