"""Cards of the text domains, and how people ask them in their own words."""

from __future__ import annotations

from intrinsic.card import AdapterCard

DOMAIN_CARDS = (
    AdapterCard(
        "medical",
        domain="medicine",
        description="Answers questions about diseases, symptoms, causes, treatments and health",
        keywords=("disease", "symptom", "treatment", "diagnosis", "pain", "doctor", "medicine"),
    ),
    AdapterCard(
        "legal",
        domain="law",
        description="Drafts and explains clauses of contracts and agreements",
        keywords=("contract", "clause", "agreement", "liability", "law", "party", "licence"),
    ),
    AdapterCard(
        "coding",
        domain="programming",
        description="Writes Python functions from a description",
        keywords=("python", "function", "code", "program", "list", "string", "algorithm"),
    ),
    AdapterCard(
        "creative",
        domain="fiction",
        description="Tells and continues stories, fairy tales, fables and plays",
        keywords=("story", "tale", "fable", "scene", "poem", "character", "once upon a time"),
    ),
    AdapterCard(
        "math",
        domain="mathematics",
        description="Solves arithmetic word problems step by step",
        keywords=("how many", "how much", "total", "number", "sum", "percent", "calculate"),
    ),
    AdapterCard(
        "cooking",
        domain="cooking",
        description="Gives recipes: ingredients and how to prepare a dish",
        keywords=("recipe", "ingredients", "cook", "bake", "dish", "oven", "food"),
    ),
)

OWN_WORDS = {
    "medical": """
        I have had a headache for three days, what should I do?
        why does my back ache every morning
        is a temperature of 39 dangerous for a toddler?
        what is high blood pressure caused by
        can stress make your stomach hurt
        my throat is sore and my ears hurt
        how do doctors test for anemia
        I feel tired all the time, is that a sign of something?
        what happens during chemotherapy
        are there ways to stop snoring
        do I need antibiotics for a cold
        my eyes itch in spring
        what does it mean when your chest feels tight
        is asthma passed on from parents to children?
        how long does it take for a broken wrist to heal
        can you die from the flu
        my baby won't stop coughing
        what can be done about acne
        should I see someone about this mole?
        why are my ankles swollen
    """,
    "legal": """
        can I get out of this contract if the other side is late?
        what is a warranty disclaimer
        write a termination clause for a consulting contract
        who is liable if the goods are damaged in transit?
        what happens when one party breaches the agreement
        am I allowed to sublicense the software?
        explain what an arbitration provision does
        is the seller allowed to assign his rights to someone else
        how much notice must be given before renewal?
        what counts as confidential information under an NDA
        does the buyer have the right to audit our books
        I need wording for exclusive distribution rights
        what does governing law mean
        are there caps on damages
        is my employer allowed to change the terms of my employment contract
        who keeps the trademark when the franchise ends
        what insurance does the supplier have to carry
        draft something that stops them from hiring our staff
        can they terminate without cause?
        what is a most favored nation clause
    """,
    "coding": """
        how can I remove duplicates from a list
        write a script that renames all files in a folder
        check whether a number is prime in python
        what is the regex for an email address
        count how often each word occurs in a text file
        make a class for a stack with push and pop
        give me code that computes fibonacci numbers
        how to convert a string to an integer
        loop over the keys of a dict
        function to find the largest element of an array
        open a json file and print one field
        write a recursive factorial
        how do I catch an exception
        swap two variables without a third one
        flatten nested lists
        program that prints the multiplication table
        sort tuples by their second item
        return the even numbers only
        write a unit test for this function
        how do decorators work in python
    """,
    "creative": """
        write me a short story about a dragon who is afraid of fire
        make up a bedtime story for my daughter
        continue the story: the king sent his three sons into the forest
        a poem about the sea
        I want a fable in which a crow learns humility
        write a dialogue between a queen and her fool
        there once lived an old woman in a hut of moss
        what happens next after the giant wakes up?
        invent a legend about a lonely tower
        write the opening of a tragedy
        tell a tale of a mouse and a lion
        finish this scene: enter Romeo with a torch
        the youngest brother set out to seek his fortune
        write something in old fashioned english about love and death
        a story where animals talk
        describe a haunted castle at night
        write a monologue for a dying prince
        and the hare said to the tortoise
        give me a fairy tale with a wicked stepmother
        a short play about two thieves
    """,
    "math": """
        what is half of 250 plus 30
        there are 24 students and a third of them are girls, how many boys are there?
        I run 5 km a day, how far do I run in two weeks
        a shirt costs 40 dollars and is 25% off, what do I pay
        if 4 pens cost $6 what do 10 pens cost?
        how old is Ben if he is three years younger than Tim, who is 12
        a box holds 6 eggs, how many boxes for 50 eggs
        she had 100 stickers and gave away 37, how many are left
        what is the average of 4, 8 and 15
        he earns 18 an hour and works 35 hours a week, how much does he make in a month
        a tank fills at 3 liters a minute, when are 90 liters reached
        divide 144 by 12 and add 7
        the perimeter of a rectangle that is 4 by 9
        twice a number plus five is 21, what is the number?
        we are 5 people and the bill is 85 dollars, what does each of us owe
        how many minutes are there in 3 and a half hours
        a car uses 8 liters per 100 km, how much for 250 km
        Lisa is twice as tall as her brother who is 80 cm
        what is 3/4 of 60
        after spending a quarter of his money he has 45 dollars left, what did he start with
    """,
    "cooking": """
        how do you cook rice without burning it
        what can I make with eggplant and tomatoes
        a simple recipe for banana bread please
        how long do potatoes need in the oven
        which spices go into a chili
        I want to bake cookies for the kids
        how to fry fish so that it stays crisp
        what is in a caesar dressing
        vegetarian lasagna
        how do I thicken a sauce
        steps for making pizza dough
        what should I cook with leftover chicken
        do I need yeast for this dough?
        how to boil an egg
        a marinade for pork
        tell me how to prepare mushroom risotto
        ingredients for a cheesecake
        how hot should the pan be for steak
        soup from lentils and carrots
        what do I serve with roast beef
    """,
}
"""How people ask in their own words: the text domains' prompts are templates."""

FITS_TOO = {
    "cooking": {
        "recipe",
        "ingredients_list",
        "ingredient_substitution",
        "cook_time",
        "food_last",
        "calories",
        "nutrition_info",
        "meal_suggestion",
    },
    "math": {"calculator", "measurement_conversion"},
    "medical": {"vaccines"},
}
"""Intents of CLINC150 that one of the text domains would serve too: never 'none fits' there."""
