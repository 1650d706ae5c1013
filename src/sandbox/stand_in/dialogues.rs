//! Five invented conversations, as speech recognition writes them: without capital letters and punctuation.

/// A party of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    Operator,
    Client,
}

use Party::{Client, Operator};

/// The lines of one call, and the results of the vendor's rules.
pub(super) struct Dialogue {
    pub(super) lines: &'static [(Party, &'static str)],
    pub(super) company_is_named: bool,
    pub(super) more_is_offered: bool,
}

/// Greetings and farewells. A phrase precedes the shorter phrases that it contains.
pub(super) const GREETINGS: &[&str] =
    &["assalomu alaykum", "ассалому алайкум", "здравствуйте", "добрый день", "xayrli kun"];
pub(super) const FAREWELLS: &[&str] =
    &["salomat boʻling", "salomat", "соғ бўлинг", "хайр", "всего доброго", "до свидания", "xayr"];

pub(super) const DIALOGUES: &[Dialogue] = &[
    // A clinic, in Uzbek.
    Dialogue {
        company_is_named: true,
        more_is_offered: false,
        lines: &[
            (Operator, "assalomu alaykum oilaviy klinika qabulxonasi sizga qanday yordam bera olaman"),
            (Client, "assalomu alaykum kardiolog qabuliga yozilmoqchi edim"),
            (Operator, "albatta oldin bizda koʻrikdan oʻtganmisiz"),
            (Client, "yoʻq birinchi marta kelyapman"),
            (Operator, "tushunarli ertaga soat oʻn birda yoki juma kuni soat toʻrtda boʻsh joy bor"),
            (Client, "ertaga toʻgʻri kelmaydi juma kuni boʻlsin"),
            (Operator, "yaxshi juma kuni soat oʻn olti nol nolga yozib qoʻydim"),
            (Client, "qabul narxi qancha boʻladi"),
            (Operator, "birinchi koʻrik ikki yuz ming soʻm yurak grammasi alohida sakson ming soʻm"),
            (Client, "ovqatlanib kelsa boʻladimi yoki och qoringami"),
            (Operator, "ovqatlanib kelavering faqat oldingi tahlillaringizni olib keling"),
            (Client, "xoʻp tushundim katta rahmat"),
            (Operator, "arzimaydi sogʻ boʻling salomat boʻling"),
            (Client, "xayr"),
        ],
    },
    // A parcel that is late, in Russian.
    Dialogue {
        company_is_named: true,
        more_is_offered: true,
        lines: &[
            (Operator, "здравствуйте служба доставки слушаю вас"),
            (Client, "здравствуйте я жду посылку со вторника а её всё нет"),
            (Operator, "сожалею что так вышло подскажите пожалуйста номер заказа"),
            (Client, "сорок семь двадцать один тридцать"),
            (Operator, "спасибо одну минуту я посмотрю где она сейчас"),
            (Client, "да жду"),
            (Operator, "посылка на сортировочном складе курьер не смог дозвониться вчера в шесть вечера"),
            (Client, "мне никто не звонил телефон был включён весь день"),
            (Operator, "я проверю запись звонка давайте уточним номер он заканчивается на восемнадцать"),
            (Client, "нет на восемьдесят там ошибка"),
            (Operator, "поняла вас исправила номер доставка завтра с десяти до двух вам удобно"),
            (Client, "лучше после обеда если можно"),
            (Operator, "хорошо поставила с двух до шести курьер позвонит за час"),
            (Client, "ладно спасибо"),
            (Operator, "могу ещё чем нибудь помочь"),
            (Client, "нет это всё до свидания"),
            (Operator, "всего доброго хорошего дня"),
        ],
    },
    // A blocked card at a bank, in Uzbek, Cyrillic letters.
    Dialogue {
        company_is_named: false,
        more_is_offered: true,
        lines: &[
            (Operator, "ассалому алайкум эшитаман сизни"),
            (Client, "ваалайкум ассалом картам блокланиб қолди пул ечолмаяпман"),
            (Operator, "тушундим қачондан бери ишламаяпти"),
            (Client, "бугун эрталабдан банкоматда кодни уч марта нотўғри терибман"),
            (Operator, "хавотир олманг картангизнинг охирги тўрт рақамини айтинг"),
            (Client, "саккиз ноль бир беш"),
            (Operator, "раҳмат шахсингизни тасдиқлаш учун туғилган йилингизни ҳам айтинг"),
            (Client, "минг тўққиз юз саксон тўртинчи йил"),
            (Operator, "тўғри ҳозир блокдан чиқараман бир дақиқа кутинг"),
            (Client, "хўп кутаман"),
            (Operator, "картангиз очилди ўн беш дақиқадан кейин ишлатишингиз мумкин"),
            (Client, "кодни эса эслолмаяпман янгисини олса бўладими"),
            (
                Operator,
                "ҳа иловада карта созламаларида янги код ўрнатасиз ғалати хабар келса бизга қўнғироқ қилинг",
            ),
            (Client, "катта раҳмат сизга"),
            (Operator, "яна саволингиз борми"),
            (Client, "йўқ ҳаммаси тушунарли"),
            (Operator, "унда соғ бўлинг хайр"),
        ],
    },
    // Slow internet; the call begins in Uzbek and continues in Russian.
    Dialogue {
        company_is_named: true,
        more_is_offered: false,
        lines: &[
            (Operator, "assalomu alaykum aloqa markazi texnik yordam boʻlimi"),
            (Client, "assalomu alaykum rus tilida gaplashsak boʻladimi"),
            (Operator, "да конечно добрый день что случилось"),
            (Client, "третий день интернет еле работает по вечерам вообще ничего не открывается"),
            (Operator, "понимаю вас а роутер вы перезагружали"),
            (Client, "раз десять уже не помогает"),
            (Operator, "назовите пожалуйста номер договора"),
            (Client, "двести пять триста сорок"),
            (Operator, "вижу на линии потери сигнала похоже на повреждение кабеля в подъезде"),
            (Client, "и что теперь делать мне работать надо"),
            (Operator, "отправлю мастера сегодня до восьми вечера и сделаю перерасчёт за три дня"),
            (Client, "хорошо только пусть позвонит заранее"),
            (Operator, "обязательно передам"),
            (Client, "rahmat xayr"),
            (Operator, "salomat boʻling"),
        ],
    },
    // A coat that does not fit, in Uzbek.
    Dialogue {
        company_is_named: false,
        more_is_offered: false,
        lines: &[
            (Operator, "xayrli kun eshitaman"),
            (Client, "xayrli kun sizlardan palto olgandim oʻlchami kichik ekan"),
            (Operator, "qachon sotib olgansiz"),
            (Client, "oʻtgan shanba kuni chekim ham bor"),
            (Operator, "oʻn kun ichida almashtirib beramiz yorligʻi turibdimi"),
            (Client, "ha kiymaganman yorligʻi ham joyida"),
            (Operator, "unda istalgan doʻkonimizga olib keling qaysi oʻlcham kerak"),
            (Client, "qirq sakkiz bormi koʻk rangidan"),
            (Operator, "bir daqiqa qarab beraman"),
            (Operator, "koʻk rangi faqat chilonzordagi doʻkonda qolgan bitta dona"),
            (Client, "meni kutib turishsin bugun kechqurun boraman"),
            (Operator, "mayli soat toʻqqizgacha ushlab turishadi"),
            (Client, "rahmat"),
        ],
    },
];
