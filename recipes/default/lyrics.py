"""Lines to sing, written for this recipe: short, with many open vowels and every consonant."""

ENGLISH = """
hold me now, I will wait for the morning light
we were running through the fire and the rain
oh, I never knew your name
turn the radio on and drive all night
every river finds the sea
I can hear you calling out for me
shadows on the wall, they dance and fall
give me one more reason why I should stay
nothing in the world could bring me down
the city never sleeps, and neither do I
take my hand and follow me home
summer days are slowly fading away
you said forever, but forever was a lie
I was born beneath a cold and broken star
let it go, let it burn, let it shine
there is a house on the edge of the ocean
my heart is beating like a drum
show me the way to the other side
baby, don't you leave me here alone
we could be more than this, you know
higher and higher, we touch the sky
all of my friends are gone for good
silver moon above the empty street
I would walk a thousand miles to see you smile
fever dreams and golden leaves
what would you do if I told you the truth
just a little longer, just a little more
sing it loud and sing it clear
the wind has changed, the clouds are low
we don't need no money, we don't need no fame
this is the last time I say goodbye
jump into the water, feel alive again
broken glass and promises, scattered on the floor
you are the voice inside my head
wild horses over the yellow hill
I feel it coming, I feel it now
steal the keys and start the car
they keep on talking, but I hear no sound
love is a game that nobody wins
bring back the colours of yesterday
somebody save me from myself tonight
the bells are ringing in the valley below
you and I against the whole wide world
sweet as sugar, cold as ice
please believe me when I say I tried
thunder is rolling, the sky turns grey
tell your mother and tell your father too
time is a thief that never gives back
I've got a feeling deep in my bones
put your hands up high and move your feet
""".strip().splitlines()

RAP = """
check the clock, tick tock, never gonna stop till I reach the top
pick it up, kick it up, bring the bass back, turn the track up
I got a plan in my pocket and a rocket in my brain
step by step on the pavement, every day I'm making statements
quick with the wit, I commit to the script and I flip it
money in the bank but the tank's still empty
talk is cheap so I keep it to a minimum
back to the block with a beat in the box and a beat in the chest
""".strip().splitlines()

VOCALISE = """
la la la la la la la
oh oh oh oh oh
na na na na, na na na, hey
ah ah ah ah
ooh ooh ooh ooh
hey hey, yeah yeah yeah
mm mm mm mm
da da dee da da do
""".strip().splitlines()

ADLIBS = ["yeah", "hey", "come on", "oh no", "alright", "let's go", "uh huh", "ooh", "ah"]

FOREIGN = {  # by espeak-ng's name of the language
    "es": [
        "la luna sale sobre el mar",
        "quiero vivir contigo esta noche",
        "corazón, no me dejes solo",
        "el viento canta una vieja canción",
    ],
    "it": [
        "il sole nasce ancora per noi",
        "dove vai, amore mio, senza di me",
        "questa notte non finirà mai",
        "canta piano la mia città",
    ],
    "fr": [
        "je marche seul dans la rue",
        "le ciel est bleu comme tes yeux",
        "reviens, la nuit est si longue",
        "on danse encore jusqu'au matin",
    ],
    "pt-br": [
        "o mar me leva pra longe daqui",
        "eu quero ver você sorrir",
        "a saudade bate no meu coração",
        "vem comigo ver o sol nascer",
    ],
    "de": [
        "ich warte auf den neuen Tag",
        "komm mit mir durch die Nacht",
        "der Regen fällt auf unser Haus",
        "wir tanzen weiter bis zum Licht",
    ],
}
