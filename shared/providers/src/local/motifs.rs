//! Things that people name: a lighthouse, boats, houses, balloons, birds.

use super::canvas::Canvas;
use super::color::Color;
use super::palette::Palette;
use super::random::Random;

/// A lighthouse of this height on `foot`; its beams are lit in the dark.
pub(super) fn lighthouse(canvas: &mut Canvas, (x, foot): (f32, f32), height: f32, palette: &Palette) {
    let white = palette.thing(Color::hex(0xf4f0e8), 0.97);
    let red = palette.thing(Color::hex(0xc83a34), 0.97);
    let iron = palette.thing(Color::hex(0x333a46), 0.97);
    let at = |t: f32| foot - height * t;
    // Half its width at a height: broad at the foot.
    let half = |t: f32| height * (0.098 - 0.05 * t + 0.012 * (1.0 - t) * (1.0 - t));
    if palette.dark {
        beams(canvas, (x, at(0.9)), height, palette);
    }
    let bands = 5;
    for band in 0..bands {
        let (low, high) = (band as f32 / bands as f32 * 0.8, (band + 1) as f32 / bands as f32 * 0.8);
        let color = if band % 2 == 0 { white } else { red };
        let shaded = color.scaled(0.74);
        let body = [
            (x - half(low), at(low)),
            (x - half(high), at(high)),
            (x + half(high), at(high)),
            (x + half(low), at(low)),
        ];
        canvas.polygon(&body, |px, py| {
            let edge = half((foot - py) / height);
            let across = ((px - x) / edge * 0.5 + 0.5).clamp(0.0, 1.0);
            (color.mix(shaded, across), 1.0)
        });
    }
    let wide = half(0.8) * 1.55;
    canvas.rectangle((x - wide, at(0.822)), (x + wide, at(0.795)), iron, 1.0);
    // Railing.
    for post in 0..7 {
        let px = x - wide * 0.94 + wide * 1.88 * post as f32 / 6.0;
        canvas.rectangle((px - height * 0.002, at(0.862)), (px + height * 0.002, at(0.82)), iron, 1.0);
    }
    canvas.rectangle((x - wide * 0.96, at(0.865)), (x + wide * 0.96, at(0.859)), iron, 1.0);
    // Lantern.
    let room = half(0.8) * 0.82;
    let glass = if palette.dark {
        palette.lamp.mix(Color::hex(0xffffff), 0.5)
    } else {
        palette.sky_at(0.6).mix(white, 0.3)
    };
    canvas.rectangle((x - room, at(0.93)), (x + room, at(0.822)), glass, 1.0);
    for bar in 0..4 {
        let px = x - room + room * 2.0 * bar as f32 / 3.0;
        canvas.rectangle((px - height * 0.003, at(0.93)), (px + height * 0.003, at(0.822)), iron, 1.0);
    }
    let cap = room * 1.3;
    canvas.shape(
        &[
            (x - cap, at(0.925)),
            (x - cap * 0.72, at(0.962)),
            (x, at(0.99)),
            (x + cap * 0.72, at(0.962)),
            (x + cap, at(0.925)),
        ],
        red,
        1.0,
    );
    canvas.rectangle((x - height * 0.003, at(1.03)), (x + height * 0.003, at(0.985)), iron, 1.0);
    // Door and windows.
    let door = height * 0.026;
    canvas.rectangle((x - door, at(0.075)), (x + door, at(0.0)), iron, 1.0);
    canvas.ellipse((x, at(0.075)), (door, door), |_, _| (iron, 1.0));
    for t in [0.26, 0.45, 0.63] {
        let pane = if palette.dark { palette.lamp } else { iron };
        canvas.ellipse((x - half(t) * 0.15, at(t)), (height * 0.012, height * 0.02), |_, _| (pane, 1.0));
    }
    if palette.dark {
        canvas.glow((x, at(0.877)), height * 0.32, palette.lamp, 0.75);
        canvas.disc((x, at(0.877)), height * 0.022, Color::hex(0xfffff0), 1.0);
    }
}

/// Two cones of light to the sides.
fn beams(canvas: &mut Canvas, (x, y): (f32, f32), height: f32, palette: &Palette) {
    let reach = canvas.unit() * 0.62;
    let light = palette.lamp.mix(Color::hex(0xffffff), 0.4);
    for (side, tilt) in [(-1.0, 0.07), (1.0, -0.1)] {
        let end = x + side * reach;
        let y = y + height * 0.02;
        let cone = [
            (x, y - height * 0.012),
            (end, y + reach * (tilt - 0.085)),
            (end, y + reach * (tilt + 0.085)),
            (x, y + height * 0.012),
        ];
        canvas.polygon(&cone, |px, py| {
            let along = ((px - x).abs() / reach).clamp(0.0, 1.0);
            let middle = y + along * reach * tilt;
            let off = ((py - middle) / (reach * 0.085 * along + height * 0.012)).abs().min(1.0);
            (light, 0.5 * (1.0 - along) * (1.0 - along) * (1.0 - off * off))
        });
    }
}

/// A sailing boat; `y` is its water line.
pub(super) fn boat(
    canvas: &mut Canvas,
    (x, y): (f32, f32),
    size: f32,
    palette: &Palette,
    (near, tint): (f32, Option<u32>),
    random: &mut Random,
) {
    let hull = palette.thing(Color::hex(random.pick(0x353f52, &[0x8a3a34, 0x2f5a68, 0xe8e2d4])), near);
    let sail =
        palette.thing(Color::hex(0xfbf6ea), near).mix(palette.glow, if palette.dark { 0.18 } else { 0.05 });
    let color = tint.unwrap_or(random.pick(0xfbf6ea, &[0xd95a48, 0xf0c060]));
    let second = palette.thing(Color::hex(color), near).mix(palette.glow, 0.1);
    let mast = palette.thing(Color::hex(0x403530), near);
    let wind = if random.chance(0.5) { 1.0 } else { -1.0 };
    let point = |dx: f32, up: f32| (x + wind * dx * size, y - up * size);
    // Upside down in the water, then itself.
    for (flip, alpha) in [(-0.72, 0.3), (1.0, 1.0)] {
        let point = |dx: f32, up: f32| point(dx, up * flip);
        canvas.shape(
            &[point(-0.012, 0.1), point(-0.012, 1.12), point(0.006, 1.12), point(0.006, 0.1)],
            mast,
            alpha,
        );
        canvas.shape(
            &[point(0.03, 0.2), point(0.03, 1.08), point(0.22, 0.66), point(0.46, 0.22)],
            sail,
            alpha,
        );
        canvas.shape(
            &[point(-0.05, 0.22), point(-0.05, 0.92), point(-0.2, 0.55), point(-0.36, 0.24)],
            second,
            alpha,
        );
        canvas.shape(
            &[
                point(-0.48, 0.17),
                point(0.56, 0.19),
                point(0.42, 0.02),
                point(0.3, -0.03),
                point(-0.3, -0.03),
                point(-0.42, 0.04),
            ],
            hull,
            alpha,
        );
    }
}

/// A small house with a chimney; `foot` is the middle of its lower edge.
pub(super) fn house(
    canvas: &mut Canvas,
    (x, foot): (f32, f32),
    size: f32,
    palette: &Palette,
    snowy: bool,
    random: &mut Random,
) {
    let near = 0.95;
    let wall = palette.thing(Color::hex(random.pick(0xe8dcc4, &[0xb05a44, 0x8a6a4c])), near);
    let roof = palette
        .thing(Color::hex(if snowy { 0xf6f9ff } else { random.pick(0x984636, &[0x4a4450, 0x6a4030]) }), near);
    let frame = palette.thing(Color::hex(0x3a2c26), near);
    let pane = if palette.dark { palette.lamp } else { palette.thing(Color::hex(0x9fc4d6), near) };
    let at = |dx: f32, up: f32| (x + dx * size, foot - up * size);
    let smoke = palette.clouds.0;
    for puff in 0..7 {
        let t = puff as f32 / 6.0;
        let center = at(0.27 + 0.2 * t * t, 0.98 + 0.75 * t);
        canvas.disc(center, size * (0.035 + 0.075 * t), smoke, 0.34 * (1.0 - t * 0.8));
    }
    canvas.rectangle(at(0.21, 0.96), at(0.33, 0.6), frame, 1.0);
    canvas.rectangle(at(-0.5, 0.48), at(0.5, -0.06), wall, 1.0);
    canvas.shape(&[at(0.0, 0.48), at(0.5, 0.48), at(0.5, -0.06), at(0.0, -0.06)], wall.scaled(0.86), 1.0);
    canvas.shape(&[at(-0.62, 0.45), at(-0.36, 0.86), at(0.36, 0.86), at(0.62, 0.45)], roof, 1.0);
    canvas.shape(&[at(-0.62, 0.45), at(-0.6, 0.48), at(0.6, 0.48), at(0.62, 0.45)], roof.scaled(0.7), 1.0);
    canvas.rectangle(at(-0.07, 0.3), at(0.09, -0.06), frame, 1.0);
    for dx in [-0.31, 0.31] {
        canvas.rectangle(at(dx - 0.1, 0.34), at(dx + 0.1, 0.14), frame, 1.0);
        canvas.rectangle(at(dx - 0.08, 0.32), at(dx + 0.08, 0.16), pane, 1.0);
        canvas.rectangle(at(dx - 0.01, 0.32), at(dx + 0.01, 0.16), frame, 1.0);
        if palette.dark {
            canvas.glow(at(dx, 0.24), size * 0.5, palette.lamp, 0.4);
        }
    }
}

/// A castle with towers; `foot` is the middle of its lower edge.
pub(super) fn castle(canvas: &mut Canvas, (x, foot): (f32, f32), size: f32, palette: &Palette, near: f32) {
    let stone = palette.thing(Color::hex(0xa89c90), near);
    let roof = palette.thing(Color::hex(0x4a5a8a), near);
    let window = if palette.dark { palette.lamp } else { stone.scaled(0.5) };
    let at = |dx: f32, up: f32| (x + dx * size, foot - up * size);
    let tower = |canvas: &mut Canvas, dx: f32, half: f32, high: f32| {
        canvas.rectangle(at(dx - half, high), at(dx + half, -0.1), stone, 1.0);
        canvas.rectangle(at(dx, high), at(dx + half, -0.1), stone.scaled(0.82), 1.0);
        canvas.rectangle(
            at(dx - half * 1.25, high + 0.03),
            at(dx + half * 1.25, high - 0.03),
            stone.scaled(0.92),
            1.0,
        );
        canvas.shape(
            &[
                at(dx - half * 1.35, high + 0.03),
                at(dx, high + 0.03 + half * 4.2),
                at(dx + half * 1.35, high + 0.03),
            ],
            roof,
            1.0,
        );
        canvas.shape(
            &[at(dx, high + 0.03), at(dx, high + 0.03 + half * 4.2), at(dx + half * 1.35, high + 0.03)],
            roof.scaled(0.8),
            1.0,
        );
        canvas.ellipse(at(dx - half * 0.1, high - 0.13), (size * half * 0.22, size * half * 0.42), |_, _| {
            (window, 1.0)
        });
    };
    tower(canvas, 0.12, 0.085, 0.82);
    tower(canvas, -0.2, 0.075, 0.66);
    canvas.rectangle(at(-0.42, 0.34), at(0.42, -0.12), stone.scaled(0.95), 1.0);
    for merlon in 0..11 {
        let dx = -0.42 + 0.8 * merlon as f32 / 10.0;
        canvas.rectangle(at(dx, 0.375), at(dx + 0.04, 0.33), stone.scaled(0.95), 1.0);
    }
    tower(canvas, -0.45, 0.08, 0.48);
    tower(canvas, 0.45, 0.08, 0.52);
    let gate = stone.scaled(0.35);
    canvas.rectangle(at(-0.055, 0.1), at(0.055, -0.12), gate, 1.0);
    canvas.ellipse(at(0.0, 0.1), (size * 0.055, size * 0.07), |_, _| (gate, 1.0));
    if palette.dark {
        canvas.glow(at(0.0, 0.4), size * 0.7, palette.lamp, 0.18);
    }
}

/// A hot-air balloon; the point is the middle of its envelope.
pub(super) fn balloon(
    canvas: &mut Canvas,
    (x, y): (f32, f32),
    size: f32,
    palette: &Palette,
    (near, tint): (f32, Option<u32>),
    random: &mut Random,
) {
    let pairs = [
        (0xd94a3f, 0xf6e3b4),
        (0x2f7f9a, 0xf4f0e0),
        (0xe88a32, 0xfbe2a0),
        (0x7a4a9a, 0xf0b0c8),
        (0x3f8f5a, 0xf4e8b0),
    ];
    let (first, second) = random.pick(pairs[0], &pairs);
    let first = tint.unwrap_or(first);
    let (first, second) = (palette.thing(Color::hex(first), near), palette.thing(Color::hex(second), near));
    let lit = if palette.dark { palette.lamp } else { palette.disc };
    let basket = palette.thing(Color::hex(0x5a3c26), near);
    let rope = basket.scaled(0.9);
    let (across, up) = (size * 0.5, size * 0.53);
    let gore = |px: f32, py: f32| {
        // Gores are narrow at the sides of a globe.
        let high = ((py - y) / up).clamp(-1.0, 1.0);
        let wide = across * (1.0 - high * high).max(0.02).sqrt();
        let off = ((px - x) / wide).clamp(-1.0, 1.0);
        let turn = off * (1.0 + 0.57 * off * off) * 2.6;
        let stripe = (turn + 20.5).floor() as i32 % 2 == 0;
        let color = if stripe { first } else { second };
        let shade = 1.0 - 0.3 * ((off + 0.45) * 0.7).max(0.0);
        (color.scaled(shade).mix(lit, 0.12 * (1.0 - high.abs())), 1.0)
    };
    for dx in [-0.28, -0.1, 0.1, 0.28] {
        let (top, foot) = (x + dx * size, x + dx * size * 0.28);
        canvas.shape(
            &[
                (top - 0.006 * size, y + up * 0.8),
                (top + 0.006 * size, y + up * 0.8),
                (foot + 0.006 * size, y + up * 1.72),
                (foot - 0.006 * size, y + up * 1.72),
            ],
            rope,
            0.9,
        );
    }
    canvas.polygon(
        &[
            (x - across * 0.86, y + up * 0.48),
            (x + across * 0.86, y + up * 0.48),
            (x + across * 0.26, y + up * 1.32),
            (x - across * 0.26, y + up * 1.32),
        ],
        |px, py| {
            let t = ((py - y) / up - 0.48) / 0.84;
            let wide = across * (0.86 - 0.6 * t);
            let off = ((px - x) / wide).clamp(-1.0, 1.0);
            let turn = off * (1.0 + 0.57 * off * off) * 2.6;
            let color = if (turn + 20.5).floor() as i32 % 2 == 0 { first } else { second };
            (color.scaled(0.94 - 0.3 * ((off + 0.45) * 0.7).max(0.0)), 1.0)
        },
    );
    canvas.ellipse((x, y), (across, up), gore);
    canvas.rectangle((x - size * 0.085, y + up * 1.7), (x + size * 0.085, y + up * 1.98), basket, 1.0);
    if palette.dark {
        canvas.glow((x, y + up * 1.2), size * 0.5, palette.lamp, 0.6);
    }
}

/// A flock far away.
pub(super) fn birds(canvas: &mut Canvas, around: (f32, f32), palette: &Palette, random: &mut Random) {
    let unit = canvas.unit();
    let color = palette.land(0.9).mix(palette.sky[0], 0.25).scaled(0.8);
    for _ in 0..5 + random.below(7) {
        let x = around.0 + random.between(-0.14, 0.14) * unit;
        let y = around.1 + random.between(-0.07, 0.07) * unit;
        let size = unit * random.between(0.008, 0.017);
        let lift = random.between(0.25, 0.7);
        let thick = size * 0.14;
        for side in [-1.0, 1.0] {
            let elbow = (x + side * size * 0.5, y - size * lift);
            let tip = (x + side * size * 1.05, y - size * lift * 0.45);
            canvas.shape(
                &[(x, y), elbow, tip, (elbow.0, elbow.1 + thick * 1.2), (x, y + thick * 1.6)],
                color,
                0.95,
            );
        }
    }
}

/// A cactus with two arms.
pub(super) fn cactus(
    canvas: &mut Canvas,
    (x, foot): (f32, f32),
    height: f32,
    palette: &Palette,
    random: &mut Random,
) {
    let green = palette.thing(Color::hex(0x3f6b3c), 0.97);
    let shade = green.scaled(0.76);
    let thick = height * 0.085;
    let limb = |canvas: &mut Canvas, x: f32, low: f32, high: f32, thick: f32| {
        let (low, high) = (foot - low * height, foot - high * height);
        canvas.rectangle((x - thick, high), (x + thick, low), green, 1.0);
        canvas.disc((x, high), thick, green, 1.0);
        canvas.rectangle((x + thick * 0.25, high), (x + thick, low), shade, 0.8);
    };
    for (side, low, high) in
        [(-1.0, random.between(0.36, 0.46), 0.78), (1.0, random.between(0.48, 0.58), 0.9)]
    {
        let at = x + side * height * 0.24;
        let y = foot - low * height;
        let (from, to) = if side < 0.0 { (at, x) } else { (x, at) };
        canvas.rectangle((from, y - thick * 0.75), (to, y + thick * 0.75), green, 1.0);
        canvas.disc((at, y), thick * 0.75, green, 1.0);
        limb(canvas, at, low, high, thick * 0.72);
    }
    limb(canvas, x, -0.02, 1.0, thick);
}

/// Falling snow, near flakes larger.
pub(super) fn snowfall(canvas: &mut Canvas, palette: &Palette, many: bool, random: &mut Random) {
    let (width, height, unit) = (canvas.width(), canvas.height(), canvas.unit());
    let white = Color::hex(0xffffff).mix(palette.haze, 0.1);
    for _ in 0..if many { 620 } else { 260 } {
        let near = random.unit();
        let near = near * near;
        let center = (random.unit() * width, random.unit() * height);
        let alpha = random.between(0.45, 0.9);
        canvas.disc(center, unit * (0.0011 + 0.0034 * near), white, alpha);
    }
}

/// Rain, driven by the wind.
pub(super) fn rain(canvas: &mut Canvas, palette: &Palette, random: &mut Random) {
    let (width, height, unit) = (canvas.width(), canvas.height(), canvas.unit());
    let color = palette.sky_at(0.9).mix(Color::hex(0xffffff), 0.35);
    for _ in 0..520 {
        let (x, y) = (random.between(-0.05, 1.05) * width, random.between(-0.05, 1.0) * height);
        let long = unit * random.between(0.018, 0.045);
        let thick = unit * random.between(0.0006, 0.0012);
        let (end_x, end_y) = (x - long * 0.22, y + long);
        canvas.shape(
            &[(x - thick, y), (x + thick, y), (end_x + thick, end_y), (end_x - thick, end_y)],
            color,
            random.between(0.12, 0.34),
        );
    }
}

/// A row of buildings from `foot` upwards; `near` is 0 far away and 1 near.
pub(super) fn skyline(
    canvas: &mut Canvas,
    foot: f32,
    height: f32,
    palette: &Palette,
    near: f32,
    random: &mut Random,
) {
    let (width, unit) = (canvas.width(), canvas.unit());
    let base = palette.land(near * 0.9);
    let mut x = -unit * 0.02;
    while x < width {
        let wide = unit * random.between(0.035, 0.085) * (0.7 + 0.5 * near);
        // The town is highest in its middle.
        let off = (x + wide * 0.5) / width * 2.0 - 1.0;
        let middle = 1.0 - 0.55 * off * off;
        let tall = height * middle * random.between(0.35, 1.0);
        let color = base.scaled(random.between(0.88, 1.1));
        building(canvas, (x, foot), (wide, tall), color, palette, near, random);
        x += wide + unit * if random.chance(0.3) { random.between(0.0, 0.012) } else { 0.0 };
    }
}

fn building(
    canvas: &mut Canvas,
    (x, foot): (f32, f32),
    (wide, tall): (f32, f32),
    color: Color,
    palette: &Palette,
    near: f32,
    random: &mut Random,
) {
    let unit = canvas.unit();
    let top = foot - tall;
    // Whole pixels: walls stand side by side without a seam.
    let (left, right) = (x.floor(), (x + wide).floor());
    canvas.rectangle((left, top), (right, foot), color, 1.0);
    match random.below(6) {
        0 => canvas.rectangle(
            (left + wide * 0.2, top - tall * 0.07),
            (right - wide * 0.2, top + 1.0),
            color,
            1.0,
        ),
        1 => canvas.shape(
            &[(left, top + 1.0), (left + wide * 0.5, top - wide * 0.45), (right, top + 1.0)],
            color,
            1.0,
        ),
        2 => {
            canvas.rectangle(
                (left + wide * 0.3, top - tall * 0.06),
                (right - wide * 0.3, top + 1.0),
                color,
                1.0,
            );
            let middle = (left + right) * 0.5;
            canvas.rectangle(
                (middle - unit * 0.0011, top - tall * 0.24),
                (middle + unit * 0.0011, top),
                color,
                1.0,
            );
        }
        _ => {}
    }
    if near < 0.3 {
        return;
    }
    let (pane, gap) = (unit * 0.0048 * (0.6 + 0.6 * near), unit * 0.0098 * (0.6 + 0.6 * near));
    let dim = color.mix(palette.sky_at(0.7), 0.28);
    let warm = [palette.lamp, Color::hex(0xfff0c8), Color::hex(0xffb860), Color::hex(0xbfe0ff)];
    let lit = if palette.dark { 0.42 } else { 0.05 };
    let columns = ((right - left - gap) / gap).max(0.0) as usize;
    let rows = ((tall - gap) / (gap * 1.25)) as usize;
    let margin = (right - left - columns as f32 * gap + (gap - pane)) * 0.5;
    for row in 0..rows {
        for column in 0..columns {
            let (px, py) = (left + margin + column as f32 * gap, top + gap * (0.8 + row as f32 * 1.25));
            let shines = random.chance(lit);
            let light = random.pick(warm[0], &warm);
            let color = if shines { light.mix(color, (1.0 - near) * 0.5) } else { dim };
            canvas.rectangle((px, py), (px + pane, py + pane * 1.35), color, if shines { 0.95 } else { 0.5 });
        }
    }
}
